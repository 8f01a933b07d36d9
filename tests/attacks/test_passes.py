"""What a pass lets its holder ask, and nobody else, and nothing more.

The adversaries are strangers, holders who want more than they were given, and the host, who carries
everything and sets the clock. All of them reach the predictor at its own door.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import AnswerRefused, EvidenceRejected, PassFile, PassHolder, attested_connector
from chiron.client.errors import GatewayError, GatewayMisbehaved
from chiron.client.gateway_session import GatewaySession
from chiron.client.ledger import Ledgers
from chiron.client.passes import IssuedPass, PassBook
from chiron.runtime.openings import seal_opening
from chiron.runtime.queries import seal_query
from chiron.wire import paths
from chiron.wire.attestation import Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import PredictionPolicy
from chiron.wire.opening import Opening, Pass, PassLease
from tests.support.predictor_door import NO_GATEWAY, SPEC, Door, predictor_door
from tests.support.tee import IMAGE, QuotingServices, policy_for

BUDGET = 40
TOP_K, DECIMALS = 3, 4
ROWS = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3)
HOUR = 3600


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuotingServices]:
    services = QuotingServices(tmp_path_factory.mktemp("q"))
    yield services
    services.close()


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    granted = PredictionPolicy(query_budget=BUDGET, top_k=TOP_K, decimals=DECIMALS)
    async with predictor_door(quoting, tmp_path, granted) as door:
        yield door


def _now() -> int:
    return int(time.time())


def _given(door: Door, *, lent: bool = True, **changes: Any) -> PassFile:
    """A pass as its owner makes it; without `lent` her predictors are never told of it."""
    key = Ed25519PrivateKey.generate()
    usual = {
        "id": sha256_hex(key.private_bytes_raw())[:32],
        "job": SPEC.job,
        "holder": key.public_key().public_bytes_raw(),
        "rows": 6,
        "until": _now() + HOUR,
    }
    allowed = Pass.model_validate(usual | changes)
    if lent:
        PassBook(door.store).add(IssuedPass(allowed=allowed, issued_at=_now()))
    return PassFile(
        allowed=allowed,
        holder_key=key.private_bytes_raw(),
        owner_public_key=door.store.job(SPEC.job).signing_public_key,
        spec=SPEC,
        policy=policy_for(door.quoting.tee, IMAGE.measurement),
        gateway=NO_GATEWAY,
    )


def _altered(content: PassFile, **changes: Any) -> PassFile:
    return content.model_copy(update={"allowed": content.allowed.model_copy(update=changes)})


async def _open(door: Door) -> None:
    """The owner opens the predictor, or tells an open one what has changed."""
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address):
        pass


async def _ask(door: Door, content: PassFile, rows: int = 1, wait_s: float = 0) -> Any:
    async with PassHolder(content) as holder:
        x = np.repeat(ROWS[:1], rows, axis=0)
        return await holder.predict(x, address=door.address, wait_s=wait_s)


async def _refused(door: Door, content: PassFile, rows: int = 1) -> str:
    with pytest.raises(AnswerRefused) as refusal:
        await _ask(door, content, rows)
    return refusal.value.code


async def _relayed(door: Door, path: str, sealed: bytes) -> str:
    """What somebody who brings this to the predictor is told; empty if it is taken."""
    connector = attested_connector(policy_for(door.quoting.tee, IMAGE.measurement), Role.PREDICTOR, SPEC.job)
    async with GatewaySession(f"https://{door.address}", None, connector) as session:
        try:
            await session.relay(path, sealed)
        except GatewayError as error:
            return error.code
    return ""


async def _lend(door: Door, *contents: PassFile, rows: int, at: int) -> None:
    """An opening as no client of ours would make it: so many rows under each pass, at that time."""
    record, key = door.store.job(SPEC.job), await _predictor_key(door, contents[0])
    opening = Opening(
        job=SPEC.job,
        predictor_key_sha256=sha256_hex(key),
        number=(_now() + 1000) * 1000,
        share=record.share,
        rows=rows,
        passes=tuple(PassLease(allowed=content.allowed, rows=rows) for content in contents),
        issued_at=at,
        until=at + HOUR,
    )
    sealed = seal_opening(opening, record.signing_key, key)
    assert await _relayed(door, paths.JOB_OPENING.of(SPEC.job), sealed) == ""


async def _predictor_key(door: Door, content: PassFile) -> bytes:
    async with PassHolder(content) as holder:
        key = (await holder.verify(door.address)).claims.hpke_public_key
    assert key is not None
    return key


def _key(content: PassFile) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(content.holder_key or b"")


async def test_a_holder_asks_what_the_pass_lets_them_and_the_owner_sees_it_counted(door: Door) -> None:
    mine = _given(door, top_k=1, decimals=2)
    await _open(door)
    told = await _ask(door, mine, rows=4)
    assert told.scores.shape == (4, 1)
    np.testing.assert_allclose(told.scores, told.scores.round(2), atol=1e-6)
    PassBook(door.store).revoke(SPEC.job, mine.allowed.id, _now())
    await _open(door)
    assert Ledgers(door.store).read(SPEC.job).passes == {mine.allowed.id: 4}


async def test_a_holder_who_asks_for_more_classes_or_decimals_is_told_what_the_grant_lets_through(
    door: Door,
) -> None:
    mine = _given(door, top_k=0, decimals=9)
    await _open(door)
    told = await _ask(door, _altered(mine, top_k=5))
    assert told.scores.shape == (1, TOP_K)
    np.testing.assert_allclose(told.scores, told.scores.astype(float).round(DECIMALS), rtol=1e-6)


async def test_a_stranger_with_a_key_of_their_own_is_refused_under_any_name(door: Door) -> None:
    mine, stranger = _given(door), _given(door, lent=False)
    await _open(door)
    assert await _refused(door, stranger) == "query-unauthorised"
    named = seal_query(SPEC, ROWS, await _predictor_key(door, mine), _key(stranger), mine.allowed.id)
    assert await _relayed(door, paths.JOB_QUERIES.of(SPEC.job), named.sealed) == "query-unauthorised"
    as_owner = seal_query(SPEC, ROWS, await _predictor_key(door, mine), _key(mine))
    assert await _relayed(door, paths.JOB_QUERIES.of(SPEC.job), as_owner.sealed) == "query-unauthorised"
    assert len(await _ask(door, mine, rows=6)) == 6


async def test_a_pass_of_another_job_is_none_here(door: Door) -> None:
    mine = _given(door)
    with pytest.raises(ValueError, match="another job"):
        PassFile.model_validate(_altered(mine, job="cd" * 16).model_dump())
    await _open(door)
    foreign = seal_query(
        SPEC.model_copy(update={"job": "cd" * 16}),
        ROWS,
        await _predictor_key(door, mine),
        _key(mine),
        mine.allowed.id,
    )
    assert await _relayed(door, paths.JOB_QUERIES.of(SPEC.job), foreign.sealed) == "query-unreadable"


async def test_a_pass_that_its_holder_widened_is_worth_what_the_owner_said(door: Door) -> None:
    mine = _given(door, top_k=1, decimals=1, rows=3)
    await _open(door)
    widened = _altered(mine, rows=1000, until=_now() + 100 * HOUR, top_k=5, decimals=9)
    assert await _refused(door, widened, rows=4) == "pass-exhausted"
    assert (await _ask(door, widened, rows=3)).scores.shape == (3, 1)


async def test_a_revoked_pass_is_refused_from_the_next_opening_on(door: Door) -> None:
    mine, other = _given(door), _given(door)
    await _open(door)
    await _ask(door, mine)
    PassBook(door.store).revoke(SPEC.job, mine.allowed.id[:8], _now())
    await _open(door)
    assert await _refused(door, mine) == "query-unauthorised"
    assert len(await _ask(door, other)) == 1


async def test_an_answer_to_an_older_opening_does_not_hide_that_a_revocation_was_dropped(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host drops the opening without the pass, and repeats what was answered to the one before."""
    mine, answers = _given(door), list[bytes]()
    honest = GatewaySession.relay

    async def replaying(self: GatewaySession, path: str, sealed: bytes) -> bytes:
        if path != paths.JOB_OPENING.of(SPEC.job):
            return await honest(self, path, sealed)
        if not answers:
            answers.append(await honest(self, path, sealed))
        return answers[0]

    monkeypatch.setattr(GatewaySession, "relay", replaying)
    await _open(door)
    PassBook(door.store).revoke(SPEC.job, mine.allowed.id, _now())
    with pytest.raises(GatewayMisbehaved):
        await _open(door)


async def test_an_opening_that_was_dropped_is_made_up_for_when_the_owner_tries_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ledger says was sent, and nobody said was taken, is not what the predictor goes by."""
    mine = _given(door)
    await _open(door)

    async def dropping(self: GatewaySession, path: str, sealed: bytes) -> bytes:
        raise GatewayError("enclave-silent", 504, "nothing came back")

    PassBook(door.store).revoke(SPEC.job, mine.allowed.id, _now())
    with monkeypatch.context() as host:
        host.setattr(GatewaySession, "relay", dropping)
        with pytest.raises(GatewayError):
            await _open(door)
    await _open(door)
    assert await _refused(door, mine) == "query-unauthorised"


async def test_an_expired_pass_is_refused_also_where_the_hosts_clock_stands_before_its_end(
    door: Door,
) -> None:
    """The owner opens it an hour later by her clock; the host's still shows a time before the pass's end."""
    mine = _given(door, until=_now() + 60)
    await _open(door)
    await _lend(door, mine, rows=6, at=_now() + HOUR)
    assert await _refused(door, mine) == "pass-expired"
    assert await _refused(door, _altered(mine, until=_now() - 1)) == "pass-expired"


async def test_a_holder_is_answered_no_more_than_their_pass_and_told_how_much_is_left(door: Door) -> None:
    mine = _given(door, rows=6)
    await _open(door)
    await _ask(door, mine, rows=4)
    with pytest.raises(AnswerRefused, match=r"used up.*\(2 rows are left\)"):
        await _ask(door, mine, rows=3)
    await _ask(door, mine, rows=2)
    await _open(door)
    assert await _refused(door, mine) == "pass-exhausted"


async def test_two_holders_and_the_owner_at_once_are_answered_no_more_than_the_grants_budget(
    door: Door,
) -> None:
    one, two = _given(door, rows=BUDGET), _given(door, rows=BUDGET)
    await _open(door)
    await _lend(door, one, two, rows=BUDGET, at=_now())
    answers = await asyncio.gather(
        *(_ask(door, holder, rows=4) for holder in (one, two) * 7), return_exceptions=True
    )
    assert sum(len(answer) for answer in answers if not isinstance(answer, BaseException)) == BUDGET
    assert {error.code for error in answers if isinstance(error, AnswerRefused)} == {"budget-exhausted"}


async def test_what_is_lent_to_several_is_never_more_than_the_grants_budget(door: Door) -> None:
    for _ in range(3):
        _given(door, rows=BUDGET // 2 + 1)
        await _open(door)
        ledger = Ledgers(door.store).read(SPEC.job)
        assert sum(ledger.loans[-1].passes.values()) + (ledger.loans[-1].rows or 0) <= BUDGET
        assert ledger.spent <= BUDGET


async def test_a_holders_query_is_answered_once_whoever_sends_it_again(door: Door) -> None:
    one, two = _given(door), _given(door)
    await _open(door)
    key, path = await _predictor_key(door, one), paths.JOB_QUERIES.of(SPEC.job)
    pending = seal_query(SPEC, ROWS, key, _key(one), one.allowed.id)
    codes = await asyncio.gather(*(_relayed(door, path, pending.sealed) for _ in range(4)))
    assert sorted(codes) == ["", *["query-replayed"] * 3]
    # Not after a new opening either, and not in another's name.
    PassBook(door.store).revoke(SPEC.job, two.allowed.id, _now())
    await _open(door)
    assert await _relayed(door, path, pending.sealed) == "query-replayed"
    assert len(await _ask(door, one, rows=4)) == 4
    assert await _refused(door, one) == "pass-exhausted"


async def test_a_holder_waits_while_the_owner_opens(door: Door) -> None:
    mine = _given(door)
    asking = asyncio.create_task(_ask(door, mine, wait_s=20))
    await asyncio.sleep(0.3)
    assert not asking.done()
    await _open(door)
    assert len(await asking) == 1


async def test_a_predictor_that_is_locked_or_another_owners_is_not_asked(door: Door, tmp_path: Path) -> None:
    mine = _given(door)
    assert await _refused(door, mine) == "predictor-locked"
    await _open(door)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(EvidenceRejected, match="another owner"):
        await _ask(door, mine.model_copy(update={"owner_public_key": other}))
