"""Attacks on the owner's ledger: what predictors were lent is neither forgotten nor lent again.

Whoever carries openings drops them, or their answers; and the owner's own store is lost in part, or set back
to a copy of an earlier day. What predictors sign then tells of openings that the copy does not know.
"""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chiron import AnswerRefused
from chiron.client.errors import GatewayError, LedgerMissing
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import History
from chiron.client.ledger import Ledger, Ledgers, Loan
from chiron.client.passes import PassBook
from chiron.client.settling import settle
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import sign_settlement
from chiron.wire import paths
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import PredictionPolicy
from chiron.wire.objects import settlement
from chiron.wire.opening import PassRows, Settlement, SignedSettlement
from chiron.wire.p256 import generate_key, public_key_der
from tests.support.door_callers import (
    given_pass,
    holder_asks,
    ledger_of,
    open_by_owner,
    owner_asks,
    quoting,
    record_of,
    seconds,
)
from tests.support.predictor_door import SPEC, Door, predictor_door, started_again
from tests.support.tee import QuotingServices

__all__ = ["quoting"]
BUDGET = 40
OPENING = paths.JOB_OPENING.of(SPEC.job)


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    async with predictor_door(quoting, tmp_path, PredictionPolicy(query_budget=BUDGET)) as door:
        yield door


@contextmanager
def dropping(monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Iterator[None]:
    """A host that drops openings; or, with `after`, delivers them and drops what they are answered."""
    honest = GatewaySession.relay

    async def relay(self: GatewaySession, path: str, sealed: bytes) -> bytes:
        if path != OPENING:
            return await honest(self, path, sealed)
        if after:
            await honest(self, path, sealed)
        raise GatewayError("enclave-silent", 504, "nothing came back")

    with monkeypatch.context() as host:
        host.setattr(GatewaySession, "relay", relay)
        yield


def did(door: Door) -> list[str]:
    return [entry.did.value for entry in History(door.store, SPEC.job).entries()]


class TestSetBack:
    """The store is put back as it was on an earlier day, and everything in it agrees."""

    @pytest.fixture
    def set_back(self, door: Door, tmp_path: Path) -> Callable[[str], None]:
        def copy_or_put_back(what: str) -> None:
            if what == "copy":
                shutil.copytree(door.store.root, tmp_path / "backup")
            else:
                shutil.rmtree(door.store.root)
                shutil.copytree(tmp_path / "backup", door.store.root)

        return copy_or_put_back

    async def test_rows_are_not_lent_again_by_a_store_that_was_set_back(
        self, door: Door, set_back: Callable[[str], None]
    ) -> None:
        mine = given_pass(door, rows=20)
        await owner_asks(door, 1)
        set_back("copy")
        await holder_asks(door, mine, rows=12)
        for _ in range(2):
            given_pass(door, rows=1)
            await owner_asks(door, 3)
        set_back("back")
        assert ledger_of(door).spent == 21
        assert ledger_of(door).asked == 0
        # The copy's opening is not what the predictor goes by: that shows with its first answer.
        await owner_asks(door, 1)
        await open_by_owner(door)
        ledger = ledger_of(door)
        assert ledger.asked + sum(loan.asked for loan in ledger.loans) >= 8
        assert ledger.passes[mine.allowed.id] == 12
        assert "caught-up" in did(door)
        with pytest.raises(AnswerRefused, match="left"):
            await holder_asks(door, mine, rows=9)

    async def test_a_predictor_that_has_ended_tells_a_store_that_was_set_back(
        self, door: Door, tmp_path: Path, set_back: Callable[[str], None]
    ) -> None:
        set_back("copy")
        async with started_again(door, tmp_path) as again:
            await owner_asks(again, 7)
        set_back("back")
        assert ledger_of(door).spent == 0
        sealed = door.storage.objects[settlement().name]
        for _ in range(2):
            settle(door.store, record_of(door), sealed, seconds())
            assert ledger_of(door).spent == 7
        assert did(door).count("caught-up") == 1

    async def test_a_pass_that_was_revoked_stays_so_in_a_store_that_was_set_back(
        self, door: Door, set_back: Callable[[str], None]
    ) -> None:
        revoked, other = given_pass(door, age_s=60), given_pass(door, age_s=60)
        await open_by_owner(door)
        set_back("copy")
        PassBook(door.store).revoke(SPEC.job, revoked.allowed.id, seconds())
        await open_by_owner(door)
        set_back("back")
        await owner_asks(door, 1)
        newer = given_pass(door)
        await open_by_owner(door)
        with pytest.raises(AnswerRefused) as refusal:
            await holder_asks(door, revoked)
        assert refusal.value.code == "query-unauthorised"
        for holding in (other, newer):
            assert len(await holder_asks(door, holding)) == 1


class TestLost:
    async def test_without_its_ledger_a_job_lends_nothing(self, door: Door) -> None:
        await owner_asks(door, 1)
        (door.store.root / "ledgers" / f"{SPEC.job}.json").unlink()
        with pytest.raises(LedgerMissing, match="backup"):
            await owner_asks(door, 1)
        with pytest.raises(LedgerMissing):
            Ledgers(door.store).budget(SPEC.job, 10**6)


class TestDropped:
    async def test_what_an_opening_lent_that_never_arrived_is_given_back(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = given_pass(door, rows=20)
        with dropping(monkeypatch, after=False):
            for _ in range(3):
                with pytest.raises(GatewayError):
                    await open_by_owner(door)
        assert ledger_of(door).pass_spent(mine.allowed.id) == 20
        await open_by_owner(door)
        await holder_asks(door, mine, rows=5)
        given_pass(door, rows=1)
        with dropping(monkeypatch, after=False), pytest.raises(GatewayError):
            await open_by_owner(door)
        await open_by_owner(door)
        ledger = ledger_of(door)
        assert ledger.passes[mine.allowed.id] == 5
        assert ledger.loans[-1].passes[mine.allowed.id] == 15
        assert len(ledger.loans) == 1

    async def test_what_was_taken_stays_spent_where_only_its_answer_was_dropped(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The host has an opening taken, a holder asks under it, and the owner is told that it failed."""
        mine = given_pass(door, rows=20)
        with dropping(monkeypatch, after=True), pytest.raises(GatewayError):
            await open_by_owner(door)
        await holder_asks(door, mine, rows=12)
        await open_by_owner(door)
        assert ledger_of(door).passes[mine.allowed.id] == 12
        with pytest.raises(AnswerRefused, match="8 rows are left"):
            await holder_asks(door, mine, rows=9)


KEY = generate_key()
START, OTHER, PASS = "c" * 64, "d" * 64, "ab" * 16


def lent(*numbers: int, start: str = START) -> Ledger:
    ledger, tls = Ledger(budget=1000), sha256_hex(public_key_der(KEY.public_key()))
    for number in numbers:
        loan = Loan(
            number=number,
            predictor_key_sha256=start,
            tls_key_sha256=tls,
            rows=9,
            passes={PASS: 10},
            until=2**31,
        )
        ledger = ledger.lent(loan)
    return ledger


def said(opening: int, previous: int, rows: int, start: str = START) -> SignedSettlement:
    words = Settlement(
        job=SPEC.job,
        predictor_key_sha256=start,
        opening=opening,
        previous=previous,
        queries=1,
        rows=0,
        spent=rows,
        passes=(PassRows(id=PASS, rows=rows, spent=rows),),
    )
    return sign_settlement(words, KEY)


async def test_each_of_several_passes_holds_after_others_were_shared_used_and_revoked(door: Door) -> None:
    """What one opening lends is not kept from the holders by the next one, in turns."""
    passes = []
    for _ in range(3):
        passes.append(given_pass(door))
        await open_by_owner(door)
        for holding in passes:
            await holder_asks(door, holding)
    PassBook(door.store).revoke(SPEC.job, passes.pop(0).allowed.id, seconds())
    await open_by_owner(door)
    for holding, left in zip(passes, (4, 5), strict=True):
        await holder_asks(door, holding, rows=left)


class TestWhatASettlementProves:
    def test_only_what_lies_between_two_openings_that_were_taken_is_given_back(self) -> None:
        ledger = lent(1, 2, 3, 4, 5, 6)
        # The answer to the sixth: the fourth was taken last, and the second before it.
        settled = ledger.settled(said(4, 2, rows=1), answers=6)
        assert [(loan.number, loan.over) for loan in settled.loans] == [(1, True), (2, True), (6, False)]
        assert settled.pass_spent(PASS) == 31
        # An answer that was under way longer still counts.
        assert settled.settled(said(2, 1, rows=4), answers=4).pass_spent(PASS) == 25

    def test_a_last_word_gives_back_what_comes_after_it_too(self) -> None:
        assert [loan.number for loan in lent(1, 2, 3, 4).settled(said(2, 1, rows=0)).loans] == [1]

    def test_another_start_of_the_predictor_proves_nothing(self) -> None:
        ledger = lent(1, 2, start=OTHER).model_copy(update={"numbers": (1, 2, 3)})
        assert ledger.settled(said(3, 0, rows=0)).spent == ledger.spent
        with pytest.raises(StatementInvalid):
            ledger.settled(said(2, 0, rows=0))

    def test_a_forgotten_opening_adds_what_was_spent_and_takes_nothing_away(self) -> None:
        ledger = lent(1, start=OTHER).asked_for(50, START)
        ahead = ledger.settled(said(7, 5, rows=30))
        assert (ahead.passes, ahead.spent, ahead.number) == ({PASS: 30}, 90, 7)
        assert ahead.settled(said(7, 5, rows=30)) == ahead
        behind = ahead.settled(said(9, 7, rows=3))
        assert (behind.spent, behind.number) == (90, 9)
