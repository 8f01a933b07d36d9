"""Errors of queries and answers.

QueryError
├── RowsInvalid         rows that do not fit the job's inputs (`rows-invalid`)
├── QueryMalformed      a plaintext that is no query of this job (`query-malformed`)
├── QueryUnreadable     not sealed to this predictor for this job (`query-unreadable`)
├── AnswerMalformed     a plaintext that is no answer of this job (`answer-malformed`)
└── AnswerUnreadable    not sealed to this query's one-time key (`answer-unreadable`)
"""

from chiron.wire.errors import ChironError


class QueryError(ChironError):
    """Base of all; `code` is stable."""

    code = "query-failed"


class RowsInvalid(QueryError):
    """Too many rows, or of another shape or type than the job's inputs."""

    code = "rows-invalid"


class QueryMalformed(QueryError):
    """The plaintext is not laid out as this job's queries are."""

    code = "query-malformed"


class QueryUnreadable(QueryError):
    """The ciphertext does not open with this predictor's key for this job."""

    code = "query-unreadable"


class AnswerMalformed(QueryError):
    """The plaintext is not laid out as this job's answers are."""

    code = "answer-malformed"


class AnswerUnreadable(QueryError):
    """The ciphertext does not open with the query's one-time key."""

    code = "answer-unreadable"
