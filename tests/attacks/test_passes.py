"""What a pass lets its holder ask, and nobody else, and nothing more.

The adversaries are strangers, holders who want more than they were given, and the host, who carries
everything and sets the clock. All of them reach the predictor at its own door.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import AnswerRefused, EvidenceRejected, PassFile
from chiron.client.errors import GatewayError, GatewayMisbehaved
from chiron.client.gateway_session import GatewaySession
from chiron.client.ledger import Ledgers
from chiron.client.passes import PassBook
from chiron.client.settling import settle
from chiron.runtime.openings import seal_opening
from chiron.runtime.queries import seal_query
from chiron.wire import paths
from chiron.wire.encoding import sha256_hex
from chiron.wire.errors import ChironError
from chiron.wire.grants import PredictionPolicy
from chiron.wire.objects import settlement
from chiron.wire.opening import Opening, PassLease
from tests.support.door_callers import (
    HOUR,
    ROWS,
    given_pass,
    holder_asks,
    open_by_owner,
    predictor_key,
    quoting,
    relayed,
    seconds,
)
from tests.support.predictor_door import SPEC, Door, predictor_door, started_again
from tests.support.tee import QuotingServices

__all__ = ["quoting"]
BUDGET = 40
TOP_K, DECIMALS = 3, 4


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    granted = PredictionPolicy(query_budget=BUDGET, top_k=TOP_K, decimals=DECIMALS)
    async with predictor_door(quoting, tmp_path, granted) as door:
        yield door


def _altered(content: PassFile, **changes: Any) -> PassFile:
    return content.model_copy(update={"allowed": content.allowed.model_copy(update=changes)})


async def _refused(door: Door, content: PassFile, rows: int = 1) -> str:
    with pytest.raises(AnswerRefused) as refusal:
        await holder_asks(door, content, rows)
    return refusal.value.code


async def _lend(door: Door, *contents: PassFile, rows: int, at: int) -> None:
    """An opening as no client of ours would make it: so many rows under each pass, at that time."""
    record, key = door.store.job(SPEC.job), await predictor_key(door)
    opening = Opening(
        job=SPEC.job,
        predictor_key_sha256=sha256_hex(key),
        number=(seconds() + 1000) * 1000,
        share=record.share,
        rows=rows,
        passes=tuple(PassLease(allowed=content.allowed, rows=rows) for content in contents),
        issued_at=at,
        until=at + HOUR,
    )
    sealed = seal_opening(opening, record.signing_key, key)
    assert await relayed(door, paths.JOB_OPENING.of(SPEC.job), sealed) == ""


def _key(content: PassFile) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(content.holder_key or b"")


async def test_a_holder_asks_what_the_pass_lets_them_and_the_owner_sees_it_counted(door: Door) -> None:
    mine = given_pass(door, top_k=1, decimals=2)
    await open_by_owner(door)
    told = await holder_asks(door, mine, rows=4)
    assert told.scores.shape == (4, 1)
    np.testing.assert_allclose(told.scores, told.scores.round(2), atol=1e-6)
    PassBook(door.store).revoke(SPEC.job, mine.allowed.id, seconds())
    await open_by_owner(door)
    assert Ledgers(door.store).read(SPEC.job).passes == {mine.allowed.id: 4}


async def test_a_holder_who_asks_for_more_classes_or_decimals_is_told_what_the_grant_lets_through(
    door: Door,
) -> None:
    mine = given_pass(door, top_k=0, decimals=9)
    await open_by_owner(door)
    told = await holder_asks(door, _altered(mine, top_k=5))
    assert told.scores.shape == (1, TOP_K)
    np.testing.assert_allclose(told.scores, told.scores.astype(float).round(DECIMALS), rtol=1e-6)


async def test_a_stranger_with_a_key_of_their_own_is_refused_under_any_name(door: Door) -> None:
    mine, stranger = given_pass(door), given_pass(door, lent=False)
    await open_by_owner(door)
    assert await _refused(door, stranger) == "query-unauthorised"
    named = seal_query(SPEC, ROWS, await predictor_key(door), _key(stranger), mine.allowed.id)
    assert await relayed(door, paths.JOB_QUERIES.of(SPEC.job), named.sealed) == "query-unauthorised"
    as_owner = seal_query(SPEC, ROWS, await predictor_key(door), _key(mine))
    assert await relayed(door, paths.JOB_QUERIES.of(SPEC.job), as_owner.sealed) == "query-unauthorised"
    assert len(await holder_asks(door, mine, rows=6)) == 6


async def test_a_pass_of_another_job_is_none_here(door: Door) -> None:
    mine = given_pass(door)
    with pytest.raises(ValueError, match="another job"):
        PassFile.model_validate(_altered(mine, job="cd" * 16).model_dump())
    await open_by_owner(door)
    foreign = seal_query(
        SPEC.model_copy(update={"job": "cd" * 16}),
        ROWS,
        await predictor_key(door),
        _key(mine),
        mine.allowed.id,
    )
    assert await relayed(door, paths.JOB_QUERIES.of(SPEC.job), foreign.sealed) == "query-unreadable"


async def test_a_pass_that_its_holder_widened_is_worth_what_the_owner_said(door: Door) -> None:
    mine = given_pass(door, top_k=1, decimals=1, rows=3)
    await open_by_owner(door)
    widened = _altered(mine, rows=1000, until=seconds() + 100 * HOUR, top_k=5, decimals=9)
    assert await _refused(door, widened, rows=4) == "pass-exhausted"
    assert (await holder_asks(door, widened, rows=3)).scores.shape == (3, 1)


async def test_a_revoked_pass_is_refused_from_the_next_opening_on(door: Door) -> None:
    mine, other = given_pass(door), given_pass(door)
    await open_by_owner(door)
    await holder_asks(door, mine)
    PassBook(door.store).revoke(SPEC.job, mine.allowed.id[:8], seconds())
    await open_by_owner(door)
    assert await _refused(door, mine) == "query-unauthorised"
    assert len(await holder_asks(door, other)) == 1


async def test_an_answer_to_an_older_opening_does_not_hide_that_a_revocation_was_dropped(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host drops the opening without the pass, and repeats what was answered to the one before."""
    mine, answers = given_pass(door), list[bytes]()
    honest = GatewaySession.relay

    async def replaying(self: GatewaySession, path: str, sealed: bytes) -> bytes:
        if path != paths.JOB_OPENING.of(SPEC.job):
            return await honest(self, path, sealed)
        if not answers:
            answers.append(await honest(self, path, sealed))
        return answers[0]

    monkeypatch.setattr(GatewaySession, "relay", replaying)
    await open_by_owner(door)
    PassBook(door.store).revoke(SPEC.job, mine.allowed.id, seconds())
    with pytest.raises(GatewayMisbehaved):
        await open_by_owner(door)


async def test_an_opening_that_was_dropped_is_made_up_for_when_the_owner_tries_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ledger says was sent, and nobody said was taken, is not what the predictor goes by."""
    mine = given_pass(door)
    await open_by_owner(door)

    async def dropping(self: GatewaySession, path: str, sealed: bytes) -> bytes:
        raise GatewayError("enclave-silent", 504, "nothing came back")

    PassBook(door.store).revoke(SPEC.job, mine.allowed.id, seconds())
    with monkeypatch.context() as host:
        host.setattr(GatewaySession, "relay", dropping)
        with pytest.raises(GatewayError):
            await open_by_owner(door)
    await open_by_owner(door)
    assert await _refused(door, mine) == "query-unauthorised"


async def test_an_expired_pass_is_refused_also_where_the_hosts_clock_stands_before_its_end(
    door: Door,
) -> None:
    """The owner opens it an hour later by her clock; the host's still shows a time before the pass's end."""
    mine = given_pass(door, until=seconds() + 60)
    await open_by_owner(door)
    await _lend(door, mine, rows=6, at=seconds() + HOUR)
    assert await _refused(door, mine) == "pass-expired"
    assert await _refused(door, _altered(mine, until=seconds() - 1)) == "pass-expired"


async def test_a_holder_is_answered_no_more_than_their_pass_and_told_how_much_is_left(door: Door) -> None:
    mine = given_pass(door, rows=6)
    await open_by_owner(door)
    await holder_asks(door, mine, rows=4)
    with pytest.raises(AnswerRefused, match=r"used up.*\(2 rows are left\)"):
        await holder_asks(door, mine, rows=3)
    await holder_asks(door, mine, rows=2)
    await open_by_owner(door)
    assert await _refused(door, mine) == "pass-exhausted"


async def test_two_holders_and_the_owner_at_once_are_answered_no_more_than_the_grants_budget(
    door: Door,
) -> None:
    one, two = given_pass(door, rows=BUDGET), given_pass(door, rows=BUDGET)
    await open_by_owner(door)
    await _lend(door, one, two, rows=BUDGET, at=seconds())
    answers = await asyncio.gather(
        *(holder_asks(door, holder, rows=4) for holder in (one, two) * 7), return_exceptions=True
    )
    assert sum(len(answer) for answer in answers if not isinstance(answer, BaseException)) == BUDGET
    assert {error.code for error in answers if isinstance(error, AnswerRefused)} == {"budget-exhausted"}


async def test_what_is_lent_to_several_is_never_more_than_the_grants_budget(door: Door) -> None:
    for _ in range(3):
        given_pass(door, rows=BUDGET // 2 + 1)
        await open_by_owner(door)
        ledger = Ledgers(door.store).read(SPEC.job)
        assert sum(ledger.loans[-1].passes.values()) + (ledger.loans[-1].rows or 0) <= BUDGET
        assert ledger.spent <= BUDGET


async def test_a_holders_query_is_answered_once_whoever_sends_it_again(door: Door) -> None:
    one, two = given_pass(door), given_pass(door)
    await open_by_owner(door)
    key, path = await predictor_key(door), paths.JOB_QUERIES.of(SPEC.job)
    pending = seal_query(SPEC, ROWS, key, _key(one), one.allowed.id)
    codes = await asyncio.gather(*(relayed(door, path, pending.sealed) for _ in range(4)))
    assert sorted(codes) == ["", *["query-replayed"] * 3]
    # Not after a new opening either, and not in another's name.
    PassBook(door.store).revoke(SPEC.job, two.allowed.id, seconds())
    await open_by_owner(door)
    assert await relayed(door, path, pending.sealed) == "query-replayed"
    assert len(await holder_asks(door, one, rows=4)) == 4
    assert await _refused(door, one) == "pass-exhausted"


async def test_a_holder_waits_while_the_owner_opens(door: Door) -> None:
    mine = given_pass(door)
    asking = asyncio.create_task(holder_asks(door, mine, wait_s=20))
    await asyncio.sleep(0.3)
    assert not asking.done()
    await open_by_owner(door)
    assert len(await asking) == 1


async def test_a_predictor_that_is_locked_or_another_owners_is_not_asked(door: Door, tmp_path: Path) -> None:
    mine = given_pass(door)
    assert await _refused(door, mine) == "predictor-locked"
    await open_by_owner(door)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(EvidenceRejected, match="another owner"):
        await holder_asks(door, mine.model_copy(update={"owner_public_key": other}))


async def test_no_row_is_answered_that_a_settlement_which_is_slow_to_store_does_not_count(
    door: Door, tmp_path: Path
) -> None:
    """Holders ask on while the host ends the predictor, and storing its last word takes long."""
    passes = [given_pass(door, rows=BUDGET // 2) for _ in range(2)]
    door.storage.delays_s.append(1.0)
    told = dict.fromkeys((one.allowed.id for one in passes), 0)
    first = asyncio.Event()

    async def asks(predictor: Door, content: PassFile) -> None:
        while True:
            try:
                told[content.allowed.id] += len(await holder_asks(predictor, content))
            except (ChironError, OSError):
                return
            first.set()

    async with started_again(door, tmp_path) as again:
        await open_by_owner(again)
        asking = [asyncio.create_task(asks(again, one)) for one in passes * 2]
        await first.wait()
    await asyncio.gather(*asking)
    assert settlement().name in door.storage.objects
    record, sealed = door.store.job(SPEC.job), door.storage.objects[settlement().name]
    settle(door.store, record, sealed, seconds())
    counted = Ledgers(door.store).read(SPEC.job).passes
    assert 0 < sum(told.values()) <= sum(counted.values())
    assert all(told[name] <= counted[name] <= BUDGET // 2 for name in told)
