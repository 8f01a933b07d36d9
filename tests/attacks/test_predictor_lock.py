"""A predictor's lock: without its owner nobody starts, clones or rolls back what answers for her model.

Adversaries here are the host, who starts predictors, keeps their objects, sets their clocks and reads what
they write, and strangers who reach a predictor's door.
"""

import asyncio
import base64
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import AnswerRefused
from chiron.client.errors import EvidenceRejected, GatewayError
from chiron.client.gateway_session import GatewaySession
from chiron.client.ledger import Ledgers
from chiron.client.opening import Opened
from chiron.runtime.errors import OpeningRefused, PredictorLocked, StatementInvalid
from chiron.runtime.openings import (
    OPENING_BYTES,
    check_signed,
    open_settlement,
    seal_opening,
    sign_settlement,
)
from chiron.runtime.queries import seal_query
from chiron.runtime.roles.model_lock import ModelLock
from chiron.runtime.roles.predictor_keys import PredictorKeys
from chiron.runtime.roles.sealed_model import ModelHeader, seal_model
from chiron.runtime.roles.stored_model import AGAIN_S, StoredModel
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.padding import pad
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import paths
from chiron.wire.attestation import Evidence
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import PredictionPolicy
from chiron.wire.labels import MODEL, OPENING, OPENING_SIGNATURE, QUERY_SIGNATURE, bind
from chiron.wire.objects import settlement
from chiron.wire.opening import Opening, Pass, PassLease, SignedOpening
from chiron.wire.p256 import generate_key
from tests.support.door_callers import (
    claims_of,
    ledger_of,
    owner_asks,
    predictor_key,
    quoting,
    record_of,
    relayed,
)
from tests.support.predictor_door import SHARE, SPEC, Door, linear_model, predictor_door, started_again
from tests.support.tee import IMAGE, QuotingServices

__all__ = ["quoting"]
BUDGET = 10
OPENINGS, QUERIES = paths.JOB_OPENING.of(SPEC.job), paths.JOB_QUERIES.of(SPEC.job)
ROWS = np.ones((2, 2, 3), np.float32)
OWNER = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    async with predictor_door(quoting, tmp_path, PredictionPolicy(query_budget=BUDGET)) as door:
        yield door


async def _send(door: Door, opening: Opening, signer: Ed25519PrivateKey, key: bytes) -> str:
    """What somebody who brings an opening is told; empty if it is taken."""
    return await relayed(door, OPENINGS, seal_opening(opening, signer, key))


def _opening(key: bytes, **changes: Any) -> Opening:
    now = int(time.time())
    honest = {
        "job": SPEC.job,
        "predictor_key_sha256": sha256_hex(key),
        "number": now,
        "share": SHARE,
        "rows": BUDGET,
        "issued_at": now,
        "until": now + 600,
    }
    return Opening.model_validate(honest | changes)


async def _exhausted(door: Door) -> None:
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
        with pytest.raises(AnswerRefused) as refused:
            await session.predict(ROWS[:1])
    assert refused.value.code == "budget-exhausted"


class TestLocked:
    async def test_a_locked_predictor_gives_nothing_but_evidence(self, door: Door) -> None:
        key = await predictor_key(door)
        assert (await claims_of(door)).owner_key_sha256 is None
        genuine = seal_query(SPEC, ROWS, key, record_of(door).signing_key).sealed
        for sealed in (genuine, b"garbage", bytes(5000)):
            assert await relayed(door, QUERIES, sealed) == "predictor-locked"

    async def test_it_is_locked_again_after_its_end(self, quoting: QuotingServices) -> None:
        lock, key, clock = _locked(quoting)
        await lock.open(seal_opening(_opening(key), OWNER, key))
        assert lock.owner is not None
        clock.now += timedelta(seconds=601)
        assert lock.owner is None
        with pytest.raises(PredictorLocked):
            lock.opened()

    async def test_a_clock_that_is_set_back_opens_nothing_again(self, quoting: QuotingServices) -> None:
        lock, key, clock = _locked(quoting)
        again = seal_opening(_opening(key, number=2**40), OWNER, key)
        await lock.open(seal_opening(_opening(key), OWNER, key))
        clock.now += timedelta(seconds=601)
        assert lock.owner is None
        clock.now -= timedelta(days=300)
        with pytest.raises(OpeningRefused, check=lambda error: error.code == "opening-expired"):
            await lock.open(again)

    async def test_a_clock_before_the_owners_does_not_lengthen_an_opening(
        self, quoting: QuotingServices
    ) -> None:
        lock, key, clock = _locked(quoting)
        clock.now -= timedelta(days=300)
        expired = _opening(key, until=int(time.time()))
        with pytest.raises(OpeningRefused, check=lambda error: error.code == "opening-expired"):
            await lock.open(seal_opening(expired, OWNER, key))


class TestAlteredModel:
    async def test_once_the_host_has_mended_it_the_next_opening_is_taken(
        self, quoting: QuotingServices
    ) -> None:
        host = Host(damages=True)
        lock, key, clock = _locked(quoting, host)
        honest = seal_opening(_opening(key, until=int(time.time()) + 3600), OWNER, key)
        for mended_at_last in (False, False, True):
            clock.now += timedelta(seconds=AGAIN_S)
            host.damages = not mended_at_last
            if not mended_at_last:
                with pytest.raises(OpeningRefused, check=lambda e: e.code == "opening-share-wrong"):
                    await lock.open(honest)
        await lock.open(honest)
        assert lock.owner is not None

    async def test_a_model_that_was_open_is_not_changed_for_another(self, quoting: QuotingServices) -> None:
        host = Host()
        lock, key, clock = _locked(quoting, host)
        await lock.open(seal_opening(_opening(key), OWNER, key))
        host.damages = True
        clock.now += timedelta(seconds=601)
        assert lock.owner is None
        with pytest.raises(OpeningRefused):
            await lock.open(seal_opening(_opening(key, number=2**40, share=bytes(32)), OWNER, key))
        again = _opening(key, number=2**41, until=int(time.time()) + 3600)
        await lock.open(seal_opening(again, OWNER, key))
        assert host.reads == 0

    async def test_its_owner_is_told_what_happened_and_what_to_do(
        self, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good = door.storage.objects["model"]
        door.storage.objects["model"] = good[:-1] + bytes([good[-1] ^ 1])
        monkeypatch.setattr("chiron.runtime.roles.stored_model.AGAIN_S", 0)
        async with started_again(door, tmp_path) as again:
            with pytest.raises(GatewayError, match="Have the operator restore it") as refused:
                await owner_asks(again, 1)
            assert refused.value.code == "opening-share-wrong"
            door.storage.objects["model"] = good
            await owner_asks(again, 1)


class TestForgedOpenings:
    async def test_no_model_is_opened_for_a_stranger_once_its_owner_is_known(
        self, quoting: QuotingServices
    ) -> None:
        """Opening a large one takes seconds, and the owner's own openings would wait for it."""
        lock, key, _ = _locked(quoting)
        await lock.open(seal_opening(_opening(key), OWNER, key))
        forged = _opening(key, number=2**40, share=bytes(32))
        with pytest.raises(OpeningRefused, check=lambda error: error.code == "opening-unsigned"):
            await lock.open(seal_opening(forged, Ed25519PrivateKey.generate(), key))

    async def test_forged_openings_have_the_stored_model_read_again_seldom_only(
        self, quoting: QuotingServices
    ) -> None:
        host = Host()
        lock, key, clock = _locked(quoting, host)
        for _ in range(3):
            clock.now += timedelta(seconds=AGAIN_S)
            for _ in range(5):
                forged = seal_opening(_opening(key, share=bytes(32)), OWNER, key)
                with pytest.raises(OpeningRefused):
                    await lock.open(forged)
        assert host.reads == 3
        await lock.open(seal_opening(_opening(key, number=2**40), OWNER, key))

    async def test_forged_openings_change_nothing_and_lock_nobody_out(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        now = int(time.time())
        forged = {
            "opening-unsigned": (_opening(key, number=2**50), Ed25519PrivateKey.generate()),
            "opening-share-wrong": (_opening(key, number=2**51, share=bytes(32)), owner),
            "opening-for-another": (_opening(b"elsewhere", number=2**51), owner),
            "opening-expired": (_opening(key, number=2**51, until=now), owner),
        }
        for code, (opening, signer) in forged.items():
            assert await _send(door, opening, signer, key) == code
        assert await relayed(door, OPENINGS, b"garbage" * 20) == "opening-unreadable"
        assert (await claims_of(door)).owner_key_sha256 is None
        await owner_asks(door, 1)

    async def test_an_opening_for_another_job_is_none(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        other = _opening(key, job="cd" * 16)
        assert await _send(door, other, owner, key) == "opening-unreadable"

    async def test_every_part_of_an_opening_is_signed(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        honest = _opening(key)
        signature = owner.sign(honest.signed_bytes())
        holder = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        mine = Pass(id="ab" * 16, job=SPEC.job, holder=holder, rows=9, until=2**36)
        forgeries: list[dict[str, Any]] = [
            {"rows": None},
            {"rows": 10**6},
            {"until": honest.until + 1},
            {"number": honest.number + 1},
            {"issued_at": honest.issued_at - 1},
            {"passes": (PassLease(allowed=mine, rows=9),)},
        ]
        for changes in forgeries:
            signed = SignedOpening(opening=honest.model_copy(update=changes), signature=signature)
            assert await relayed(door, OPENINGS, _sealed(signed, key)) == "opening-unsigned"

    async def test_a_signature_for_another_purpose_opens_nothing(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        honest = _opening(key)
        content = honest.signed_bytes().removeprefix(bind(OPENING_SIGNATURE, b""))
        for signature in (owner.sign(content), owner.sign(bind(QUERY_SIGNATURE, content))):
            signed = SignedOpening(opening=honest, signature=signature)
            assert await relayed(door, OPENINGS, _sealed(signed, key)) == "opening-unsigned"

    async def test_an_older_or_replayed_opening_is_refused_by_the_same_start(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        first, second = (_opening(key, number=number) for number in (7, 8))
        assert await _send(door, first, owner, key) == ""
        assert await _send(door, second, owner, key) == ""
        for old in (first, second):
            assert await _send(door, old, owner, key) == "opening-not-newer"

    async def test_an_opening_is_worth_nothing_to_another_start(self, door: Door, tmp_path: Path) -> None:
        """Two predictors of one model at once: each needs its owner."""
        key, owner = await predictor_key(door), record_of(door).signing_key
        sealed = seal_opening(_opening(key), owner, key)
        assert await relayed(door, OPENINGS, sealed) == ""
        async with started_again(door, tmp_path) as clone:
            assert await relayed(clone, OPENINGS, sealed) == "opening-unreadable"
            resealed = seal_opening(_opening(key, number=2**40), owner, await predictor_key(clone))
            assert await relayed(clone, OPENINGS, resealed) == "opening-for-another"
            assert (await claims_of(clone)).owner_key_sha256 is None

    async def test_the_number_of_passes_does_not_show(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        holder = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        passes = [
            Pass(id=f"{number:032x}", job=SPEC.job, holder=holder, rows=2**52, until=2**36)
            for number in range(1, 257)
        ]
        leases = tuple(PassLease(allowed=one, rows=2**52) for one in passes)
        none, many = (seal_opening(_opening(key, passes=given), owner, key) for given in ((), leases))
        assert len(none) == len(many)


class TestRollback:
    async def test_kill_and_restart_gives_no_row_back(self, door: Door, tmp_path: Path) -> None:
        """The host kills the predictor, keeps every object as it was, and starts it again and again."""
        before = dict(door.storage.objects)
        await owner_asks(door, 6)
        door.storage.objects.clear()
        door.storage.objects.update(before)
        async with started_again(door, tmp_path) as again:
            await owner_asks(again, 4)
            await _exhausted(again)
        door.storage.objects.pop(settlement().name, None)
        async with started_again(door, tmp_path) as third:
            await _exhausted(third)

    async def test_a_clone_is_lent_only_what_is_left(self, door: Door, tmp_path: Path) -> None:
        await owner_asks(door, 6)
        async with started_again(door, tmp_path) as clone:
            opened: list[Opened] = []
            await owner_asks(clone, 1, opened)
            assert [one.rows for one in opened] == [BUDGET - 6]
            await owner_asks(door, 3)
            for either in (door, clone):
                await _exhausted(either)

    async def test_a_settlement_of_another_time_or_hand_gives_nothing_back(
        self, door: Door, tmp_path: Path
    ) -> None:
        await owner_asks(door, 3)
        async with started_again(door, tmp_path) as again:
            await owner_asks(again, 1)
            ledger = ledger_of(door).asked_for(2, sha256_hex(await predictor_key(again)))
        sealed = door.storage.objects[settlement().name]
        signed = open_settlement(sealed, SHARE, SPEC.job)
        assert signed is not None
        assert (ledger.spent, ledger.settled(signed).spent) == (6, 4)
        # The host shows it once more; garbles it; seals one of its own, or another start's, in its place.
        assert ledger.settled(signed).settled(signed).spent == 4
        for shown, share in ((sealed[:-1] + bytes([sealed[-1] ^ 1]), SHARE), (sealed, bytes(32))):
            with pytest.raises(StatementInvalid):
                open_settlement(shown, share, SPEC.job)
        less = signed.settlement.model_copy(update={"rows": 0})
        stranger = generate_key()
        forged = (
            signed.model_copy(update={"settlement": less}),
            sign_settlement(less, stranger),
            sign_settlement(less, stranger).model_copy(update={"key": signed.key}),
            sign_settlement(less.model_copy(update={"opening": ledger.loans[0].number}), stranger),
        )
        for one in forged:
            with pytest.raises(StatementInvalid):
                ledger.settled(one)

    async def test_a_settlement_is_signed_by_the_predictor_that_was_lent_to(
        self, door: Door, tmp_path: Path
    ) -> None:
        async with started_again(door, tmp_path) as again:
            await owner_asks(again, 3)
        loan = ledger_of(door).loans[0]
        signed = open_settlement(door.storage.objects[settlement().name], SHARE, SPEC.job)
        assert signed is not None
        check_signed(signed, loan.tls_key_sha256)
        assert (signed.settlement.rows, signed.settlement.opening) == (3, loan.number)
        assert ledger_of(door).settled(signed).spent == 3
        assert len(door.storage.objects[settlement().name]) == settlement().stored_bytes

    async def test_rows_that_were_asked_for_and_never_answered_come_back_by_settlement_only(
        self, door: Door, tmp_path: Path
    ) -> None:
        ledgers = Ledgers(door.store)
        async with started_again(door, tmp_path) as again:
            await owner_asks(again, 2)
            # Asked for, and never carried to the predictor.
            with ledgers.changing(SPEC.job) as change:
                change.ledger = change.ledger.asked_for(5, sha256_hex(await predictor_key(again)))
            assert ledgers.read(SPEC.job).left == 3
        assert ledgers.read(SPEC.job).left == 3
        signed = open_settlement(door.storage.objects[settlement().name], SHARE, SPEC.job)
        assert signed is not None
        assert ledgers.read(SPEC.job).settled(signed).left == BUDGET - 2


class TestModelObjects:
    async def test_what_a_finished_job_left_opens_nothing_without_its_owner(
        self, door: Door, tmp_path: Path
    ) -> None:
        """The host restores any state of its storage and starts predictors: each is locked."""
        async with started_again(door, tmp_path) as once:
            await owner_asks(once, 1)
        for objects in (dict(door.storage.objects), {"model": door.storage.objects["model"]}):
            door.storage.objects.clear()
            door.storage.objects.update(objects)
            async with started_again(door, tmp_path) as again:
                assert (await claims_of(again)).owner_key_sha256 is None
                query = seal_query(SPEC, ROWS, await predictor_key(again), record_of(door).signing_key)
                assert await relayed(again, QUERIES, query.sealed) == "predictor-locked"

    async def test_claims_that_name_the_owner_are_not_believed_of_a_locked_predictor(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The host writes the owner's name into a locked predictor's claims: the quote is over others."""
        owner = sha256_hex(record_of(door).signing_public_key)
        honest = GatewaySession.evidence

        async def lying(self: GatewaySession, *given: Any, **options: Any) -> Evidence:
            evidence = await honest(self, *given, **options)
            claims = evidence.claims.model_copy(update={"owner_key_sha256": owner})
            return evidence.model_copy(update={"claims": claims})

        monkeypatch.setattr(GatewaySession, "evidence", lying)
        with pytest.raises(EvidenceRejected) as rejected:
            await owner_asks(door, 1)
        assert rejected.value.code == "evidence-claims"


class TestCounts:
    async def test_of_concurrent_queries_none_loses_a_count(self, door: Door) -> None:
        key, owner = await predictor_key(door), record_of(door).signing_key
        await owner_asks(door, 0)
        asked = [seal_query(SPEC, ROWS[:1], key, owner).sealed for _ in range(2 * BUDGET)]
        await asyncio.gather(*(relayed(door, QUERIES, sealed) for sealed in asked))
        async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
            with pytest.raises(AnswerRefused):
                await session.predict(ROWS[:1])

    async def test_answers_state_what_was_answered_and_the_counts_ascend(self, door: Door) -> None:
        async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
            told = []
            for _ in range(3):
                await session.predict(ROWS)
                assert session.statement is not None
                told.append((session.statement.statement.queries, session.statement.statement.rows))
        assert told == [(1, 2), (2, 4), (3, 6)]

    async def test_two_clients_at_once_lend_under_two_numbers(self, door: Door) -> None:
        await asyncio.gather(*(owner_asks(door, 1) for _ in range(3)))
        assert ledger_of(door).spent == 3


class TestShare:
    async def test_the_share_is_in_no_log_argument_environment_or_object(
        self, door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with started_again(door, tmp_path) as again:
            await owner_asks(again, 1)
            bad = _opening(await predictor_key(again), number=2**51)
            await _send(again, bad, Ed25519PrivateKey.generate(), await predictor_key(again))
        forms = (SHARE, SHARE.hex().encode(), base64.b64encode(SHARE))
        kept = b"".join(door.storage.objects.values())
        seen = (caplog.text + repr(sys.argv) + repr(dict(os.environ))).encode()
        for form in forms:
            assert form not in kept
            assert form not in seen


class Clock:
    """The host's."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Host:
    """Stores a model that may be damaged, and is asked for it again."""

    def __init__(self, *, damages: bool = False) -> None:
        self.damages = damages
        self.reads = 0
        self._stored = b""

    def damaged(self, sealed: bytes) -> bytes:
        """What is read first."""
        self._stored = sealed
        return sealed[:-1] + bytes([sealed[-1] ^ 1]) if self.damages else sealed

    async def read(self) -> bytes:
        self.reads += 1
        return self.damaged(self._stored)


def _locked(quoting: QuotingServices, host: Host | None = None) -> tuple[ModelLock, bytes, Clock]:
    """A lock of a model of `OWNER`, by the host's clock."""
    platform, clock = quoting.platform(IMAGE), Clock()
    header = ModelHeader(
        job=SPEC.job,
        spec_digest=SPEC.digest(),
        prediction=PredictionPolicy(),
        owner_signing_key=OWNER.public_key().public_bytes_raw(),
        usable=True,
    )
    sealed = seal_model(SPEC, header, linear_model(), Sealer(platform, MODEL, SHARE))
    keys, host = PredictorKeys(platform, SPEC.job), host or Host()
    stored = StoredModel(host.damaged(sealed), host.read, lambda: clock.now.timestamp())
    return ModelLock(SPEC, stored, platform, keys, clock), keys.key.public_bytes, clock


def _sealed(signed: SignedOpening, key: bytes) -> bytes:
    padded = pad(signed.model_dump_json().encode(), OPENING_BYTES)
    return hpke.seal(key, padded, label=OPENING, context=bytes.fromhex(SPEC.job))
