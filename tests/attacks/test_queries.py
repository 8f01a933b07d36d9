"""Who may ask a predictor: the model's owner, each question once. Everybody else costs it a signature check.

Every adversary here can reach the predictor's door, as the host and, where there is one, a stranger can. The
operator's key of an owner's role changes nothing: the predictor knows one key, which the grant named.
"""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from chiron import AnswerRefused, PredictorSession
from chiron.runtime.queries import SIGNATURE_BYTES, Query, encode_query, seal_query
from chiron.runtime.sealing import hpke
from chiron.wire import paths
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import QUERY, QUERY_SIGNATURE, UPGRADE_ORDER, bind
from tests.support.door_callers import opened_key, quoting, record_of, relayed
from tests.support.predictor_door import SPEC, Door, predictor_door
from tests.support.tee import QuotingServices

__all__ = ["quoting"]
BUDGET = 10
QUERIES = paths.JOB_QUERIES.of(SPEC.job)
ROWS = np.ones((2, 2, 3), np.float32)


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    async with predictor_door(quoting, tmp_path, PredictionPolicy(query_budget=BUDGET)) as door:
        yield door


def _sealed(plaintext: bytes, signature: bytes, key: bytes, spec: JobSpec = SPEC) -> bytes:
    return hpke.seal(key, signature + plaintext, label=QUERY, context=bytes.fromhex(spec.job))


def _plaintext(x: NDArray[Any] = ROWS) -> bytes:
    return encode_query(SPEC, Query.about(x, hpke.PrivateKey.generate().public_bytes))


async def _left(door: Door) -> int:
    """Rows that the owner may still ask for, found out by asking for all of them."""
    left = 0
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
        while await _answers(session):
            left += 1
    return left


async def _answers(session: PredictorSession) -> bool:
    try:
        await session.predict(ROWS[:1])
    except AnswerRefused as refused:
        if refused.code != "budget-exhausted":
            raise
        return False
    return True


async def test_a_query_that_somebody_else_signed_is_refused_and_spends_nothing(door: Door) -> None:
    key = await opened_key(door)
    for _ in range(3):
        pending = seal_query(SPEC, ROWS, key, Ed25519PrivateKey.generate())
        assert await relayed(door, QUERIES, pending.sealed) == "query-unauthorised"
    assert door.storage.stored == []
    assert await _left(door) == BUDGET


async def test_a_query_without_a_signature_as_they_were_before_is_refused(door: Door) -> None:
    key = await opened_key(door)
    plaintext = _plaintext()
    for signature in (b"", bytes(SIGNATURE_BYTES), b"\xff" * SIGNATURE_BYTES):
        assert await relayed(door, QUERIES, _sealed(plaintext, signature, key)) == "query-unauthorised"
    assert await _left(door) == BUDGET


async def test_what_the_owner_signed_for_another_purpose_job_or_predictor_is_no_query(door: Door) -> None:
    key, owner = await opened_key(door), record_of(door).signing_key
    plaintext = _plaintext()
    elsewhere = hpke.PrivateKey.generate().public_bytes
    other_job = SPEC.model_copy(update={"job": "cd" * 16})
    genuine = _signature(SPEC, plaintext, elsewhere, owner)
    forgeries = {
        "another predictor": genuine,
        "another job": _signature(other_job, plaintext, key, owner),
        "another plaintext": _signature(SPEC, _plaintext(), key, owner),
        "the plaintext alone": owner.sign(plaintext),
        "another label": owner.sign(bind(UPGRADE_ORDER, plaintext)),
        "the label alone": owner.sign(bind(QUERY_SIGNATURE, b"")),
    }
    sealed = {name: _sealed(plaintext, forged, key) for name, forged in forgeries.items()}
    told = {name: await relayed(door, QUERIES, message) for name, message in sealed.items()}
    assert told == dict.fromkeys(forgeries, "query-unauthorised")
    assert await _left(door) == BUDGET


async def test_rows_reply_key_and_request_id_cannot_be_changed_under_the_owners_signature(door: Door) -> None:
    key, owner = await opened_key(door), record_of(door).signing_key
    plaintext = _plaintext()
    signature = _signature(SPEC, plaintext, key, owner)
    for place in (8, 24, 40, 44, 44 + hpke.PUBLIC_KEY_BYTES - 1, len(plaintext) - 1):
        changed = bytearray(plaintext)
        changed[place] ^= 1
        assert await relayed(door, QUERIES, _sealed(bytes(changed), signature, key)) == "query-unauthorised"
    assert await relayed(door, QUERIES, _sealed(plaintext, signature, key)) == ""


async def test_a_query_is_answered_once_even_if_it_is_sealed_anew(door: Door) -> None:
    key, owner = await opened_key(door), record_of(door).signing_key
    plaintext = _plaintext()
    signature = _signature(SPEC, plaintext, key, owner)
    once = _sealed(plaintext, signature, key)
    assert await relayed(door, QUERIES, once) == ""
    for replayed in (once, _sealed(plaintext, signature, key)):
        assert await relayed(door, QUERIES, replayed) == "query-replayed"
    assert await _left(door) == BUDGET - len(ROWS)


async def test_of_many_copies_at_once_one_is_answered(door: Door) -> None:
    key, owner = await opened_key(door), record_of(door).signing_key
    sealed = seal_query(SPEC, ROWS, key, owner).sealed
    codes = await asyncio.gather(*(relayed(door, QUERIES, sealed) for _ in range(8)))
    assert sorted(codes) == ["", *["query-replayed"] * 7]
    assert await _left(door) == BUDGET - len(ROWS)


async def test_of_many_queries_at_once_none_loses_a_count(door: Door) -> None:
    key, owner = await opened_key(door), record_of(door).signing_key
    asked = [seal_query(SPEC, ROWS, key, owner).sealed for _ in range(2 * BUDGET)]
    await asyncio.gather(*(relayed(door, QUERIES, sealed) for sealed in asked))
    assert await _left(door) == 0


async def test_evidence_is_for_everybody(door: Door) -> None:
    assert await opened_key(door)


def _signature(spec: JobSpec, plaintext: bytes, key: bytes, owner: Ed25519PrivateKey) -> bytes:
    """As an owner's client signs, for whatever job and predictor."""
    digests = sha256(key).digest() + sha256(plaintext).digest()
    return owner.sign(bind(QUERY_SIGNATURE, bytes.fromhex(spec.job) + digests))
