"""Queries to a predictor enclave and its answers: plaintext formats, and how they are sealed."""

from chiron.runtime.queries.answer import (
    Answer,
    AnswerOutcome,
    answered,
    decode_answer,
    encode_answer,
    refused,
)
from chiron.runtime.queries.query import Query, decode_query, encode_query
from chiron.runtime.queries.sealed import PendingQuery, open_answer, open_query, seal_answer, seal_query

__all__ = [
    "Answer",
    "AnswerOutcome",
    "PendingQuery",
    "Query",
    "answered",
    "decode_answer",
    "decode_query",
    "encode_answer",
    "encode_query",
    "open_answer",
    "open_query",
    "refused",
    "seal_answer",
    "seal_query",
]
