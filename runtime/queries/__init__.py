"""Queries to a predictor enclave and its answers, as they travel: sealed, and of one size a job.

A query is signed by who asks, the model's owner or a pass's holder (Ed25519, label QUERY_SIGNATURE), over the
job, the predictor's key and the whole plaintext, which names the asker and holds request id, one-time key and
rows. Signature and plaintext are then sealed to the key in the predictor's verified evidence (label QUERY,
context: the job's id). So nobody else can ask, and what was signed for one start of one predictor is worth
nothing at another.

The answer is sealed to the query's one-time key (label ANSWER, context: the job's id and the request id), so
that it opens only as the answer to this query, and nobody can open either once that key is gone.
`query` and `answer` have the plaintexts.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from chiron.runtime.errors import (
    AnswerMalformed,
    AnswerUnreadable,
    QueryUnauthorised,
    QueryUnreadable,
    SealingError,
)
from chiron.runtime.queries.answer import (
    Answer,
    AnswerOutcome,
    answered,
    decode_answer,
    encode_answer,
    refused,
)
from chiron.runtime.queries.query import Query, asker_of, decode_query, encode_query
from chiron.runtime.sealing import hpke
from chiron.wire.encoding import Identifier
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import ANSWER, QUERY, QUERY_SIGNATURE, bind
from chiron.wire.opening import OWNER

__all__ = [
    "OWNER",
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

SIGNATURE_BYTES = 64


class PendingQuery(NamedTuple):
    """A sealed query and what opens its answer; kept in memory only, for one answer."""

    sealed: bytes
    request_id: bytes
    reply_key: hpke.PrivateKey


def seal_query(
    spec: JobSpec,
    x: NDArray[Any],
    predictor_key: bytes,
    signing_key: Ed25519PrivateKey,
    asker: Identifier = OWNER,
) -> PendingQuery:
    """A query about `x` with a fresh one-time key, signed by its asker: the owner, or the holder of a pass.

    Raises:
        RowsInvalid: the rows are not of the job's form.
    """
    reply_key = hpke.PrivateKey.generate()
    query = Query.about(x, reply_key.public_bytes, asker)
    plaintext = encode_query(spec, query)
    signature = signing_key.sign(_signed(spec, predictor_key, plaintext))
    sealed = hpke.seal(predictor_key, signature + plaintext, label=QUERY, context=bytes.fromhex(spec.job))
    return PendingQuery(sealed, query.request_id, reply_key)


def open_query(
    spec: JobSpec, sealed: bytes, key: hpke.PrivateKey, key_of: Callable[[Identifier], bytes | None]
) -> Query:
    """The predictor's side of `seal_query`; `key_of` says whose Ed25519 public key signs for an asker.

    The signature is checked before anything else of the plaintext is read.

    Raises:
        QueryUnreadable: not sealed to this key and job.
        QueryUnauthorised: not signed for this key and job by one who may ask.
        QueryMalformed: it opens, but is no query of this job.
    """
    try:
        opened = hpke.open(key, sealed, label=QUERY, context=bytes.fromhex(spec.job))
    except SealingError as error:
        raise QueryUnreadable("the query is not sealed to this predictor and job") from error
    signature, plaintext = opened[:SIGNATURE_BYTES], opened[SIGNATURE_BYTES:]
    signer = key_of(asker_of(plaintext))
    if signer is None:
        raise QueryUnauthorised("the query is not by anybody who may ask")
    try:
        signed = _signed(spec, key.public_bytes, plaintext)
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise QueryUnauthorised("the query is not signed by its asker for this predictor") from error
    return decode_query(spec, plaintext)


def seal_answer(spec: JobSpec, query: Query, answer: Answer) -> bytes:
    """The answer, sealed to the query's one-time key.

    Raises:
        AnswerMalformed: the answer does not fit the job, or the query's key is not one.
    """
    plaintext = encode_answer(spec, answer)
    context = _answer_context(spec, query.request_id)
    try:
        return hpke.seal(query.reply_public_key, plaintext, label=ANSWER, context=context)
    except SealingError as error:
        raise AnswerMalformed("the query's reply key is not an HPKE public key") from error


def open_answer(spec: JobSpec, pending: PendingQuery, sealed: bytes) -> Answer:
    """The owner's side of `seal_answer`.

    Raises:
        AnswerUnreadable: not sealed as the answer to this query.
        AnswerMalformed: it opens, but is no answer of this job.
    """
    context = _answer_context(spec, pending.request_id)
    try:
        plaintext = hpke.open(pending.reply_key, sealed, label=ANSWER, context=context)
    except SealingError as error:
        raise AnswerUnreadable("the answer is not sealed as the answer to this query") from error
    answer = decode_answer(spec, plaintext)
    if answer.request_id != pending.request_id:
        raise AnswerMalformed("the answer is to another query")
    return answer


def _signed(spec: JobSpec, predictor_key: bytes, plaintext: bytes) -> bytes:
    """What is signed of a query."""
    digests = hashlib.sha256(predictor_key).digest() + hashlib.sha256(plaintext).digest()
    return bind(QUERY_SIGNATURE, bytes.fromhex(spec.job) + digests)


def _answer_context(spec: JobSpec, request_id: bytes) -> bytes:
    return bytes.fromhex(spec.job) + request_id
