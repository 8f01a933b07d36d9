"""What an owner has lent to opened predictors: one ledger a job, in her store, where no host sets it back.

An opening lends rows to one start of one predictor. It is written down before it is sent, and the owner's own
queries before they are asked. Whatever was lent counts as spent until a settlement, signed by that very
predictor, says what was answered; a predictor that is killed gives nothing back.

A settlement says more. It names the opening before: what never arrived in between is given back. And it says
what this ledger had counted: if it is of an opening that the ledger knows nothing of, the store was set back
to an earlier copy, and the ledger catches up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from chiron.client.errors import LedgerMissing, SpecMismatch
from chiron.client.locking import lock as take
from chiron.client.store import OwnerStore, read_private, write_private
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import check_signed
from chiron.wire.encoding import Digest, Identifier, WireModel, sha256_hex
from chiron.wire.opening import Settlement, SignedSettlement, Time

MAX_LOANS = 64
"""Openings that wait to be settled. What an older one lent stays spent."""
MAX_NUMBERS = 256
"""Openings that a ledger knows to be its own, settled or not. What is said of older ones is not heard."""


class Loan(WireModel):
    """One opening that is not settled: what it lent, and to which start of which predictor."""

    number: int
    predictor_key_sha256: Digest
    tls_key_sha256: Digest
    """From evidence that we verified: it signs the settlement."""
    rows: int | None
    """Rows of the owner's own, as the opening said; None is any number."""
    asked: int = 0
    """Rows that our own queries asked for under it."""
    passes: dict[Identifier, int] = Field(default_factory=dict)
    """Rows lent under each pass."""
    until: Time
    taken: bool = False
    """Whether the predictor said that it took the opening. Until then it may go by the one before."""
    over: bool = False
    """Whether it took a newer one since: nothing is asked under this any more, and what was is not known."""


class Ledger(WireModel):
    """One job's."""

    version: Literal[1] = 1
    budget: int | None = None
    """Rows that the grant lets be answered in all; None is any number."""
    number: int = Field(default=0, ge=0)
    """The last opening's."""
    asked: int = Field(default=0, ge=0)
    """Rows of the owner's own queries that no loan counts any more."""
    passes: dict[Identifier, int] = Field(default_factory=dict)
    """Rows spent under each pass that no loan counts any more."""
    loans: tuple[Loan, ...] = ()
    numbers: tuple[int, ...] = Field(default=(), max_length=MAX_NUMBERS)
    """Of the latest openings, in their order."""

    @property
    def spent(self) -> int:
        """Rows that were answered, or may have been, or may yet be under a pass."""
        settled = self.asked + sum(self.passes.values())
        return settled + sum(loan.asked + sum(loan.passes.values()) for loan in self.loans)

    @property
    def left(self) -> int | None:
        """Rows that may still be lent or asked for; None is any number."""
        return None if self.budget is None else max(0, self.budget - self.spent)

    def pass_spent(self, pass_id: Identifier) -> int:
        """Rows lent or answered so far under this pass."""
        return self.passes.get(pass_id, 0) + sum(loan.passes.get(pass_id, 0) for loan in self.loans)

    def loan_to(self, predictor_key_sha256: Digest) -> Loan | None:
        """The newest loan to this start of a predictor that is not settled."""
        mine = [loan for loan in self.loans if loan.predictor_key_sha256 == predictor_key_sha256]
        return max(mine, key=lambda loan: loan.number, default=None)

    def owes(self, predictor_key_sha256: Digest) -> bool:
        """Whether this start of a predictor has been lent rows under passes that it will settle."""
        return any(
            any(loan.passes.values())
            for loan in self.loans
            if loan.predictor_key_sha256 == predictor_key_sha256 and not loan.over
        )

    def loan(self, number: int) -> Loan | None:
        """The loan of this opening, if it is not settled."""
        return next((loan for loan in self.loans if loan.number == number), None)

    def forgot(self, number: int) -> bool:
        """Whether an opening of this number is one that this ledger should know of, and does not."""
        is_old = len(self.numbers) == MAX_NUMBERS and number < self.numbers[0]
        return number not in self.numbers and not is_old

    def lent(self, loan: Loan) -> "Ledger":
        """With one more loan."""
        numbers = (*self.numbers, loan.number)[-MAX_NUMBERS:]
        kept = self.model_copy(
            update={"number": loan.number, "loans": (*self.loans, loan), "numbers": numbers}
        )
        while len(kept.loans) > MAX_LOANS:
            kept = kept._written_off(kept.loans[0])
        return kept

    def taken(self, number: int) -> "Ledger":
        """With the word of the predictor that it took the opening of this number."""
        loan = self.loan(number)
        return self._with(loan, loan.model_copy(update={"taken": True})) if loan is not None else self

    def goes_by(self, number: int, predictor_key_sha256: Digest) -> "Ledger":
        """With the word of a predictor by which opening it goes: where that is a newer one than we know of,
        this ledger was set back, and the predictor is to be opened anew.
        """
        loan = self.loan_to(predictor_key_sha256)
        if loan is None or number <= loan.number:
            return self
        return self._with(loan, loan.model_copy(update={"taken": False}))

    def asked_for(self, rows: int, predictor_key_sha256: Digest) -> "Ledger":
        """With `rows` of our own, about to be asked of this start of a predictor."""
        loan = self.loan_to(predictor_key_sha256)
        if loan is None:
            return self.model_copy(update={"asked": self.asked + rows})
        return self._with(loan, loan.model_copy(update={"asked": loan.asked + rows}))

    def settled(self, signed: SignedSettlement, answers: int | None = None) -> "Ledger":
        """With one loan settled, and what is proven by that never to have been taken given back.

        `answers` is the number of the opening that the settlement came in answer to; None where it is a
        predictor's last word, after which it takes no opening. What is settled already changes nothing.

        Raises:
            StatementInvalid: the predictor that had the loan did not sign it.
        """
        said, loan = signed.settlement, self.loan(signed.settlement.opening)
        start = said.predictor_key_sha256
        if loan is not None and loan.predictor_key_sha256 != start:
            raise StatementInvalid("the settlement is another predictor's")
        known = loan or self.loan_to(start)
        # Of one that we know nothing of, its seal says enough: only who was told the share can make it.
        check_signed(signed, known.tls_key_sha256 if known is not None else sha256_hex(signed.key))
        if loan is not None:
            kept = self._spent(loan, said.rows, {one.id: one.rows for one in said.passes})
            return kept.superseded(start, said.previous, answers, unanswered=loan.asked - said.rows)
        if self.forgot(said.opening):
            return self._caught_up(said).superseded(start, said.previous, answers)
        return self

    def superseded(
        self, predictor_key_sha256: Digest, previous: int, before: int | None, unanswered: int = 0
    ) -> "Ledger":
        """With the word of a predictor that it took no opening between `previous` and `before`; None for
        `before` is its end.

        What was lent in between is given back. What we asked for under that, and `unanswered` rows, the
        predictor answers under a newer opening, if there is one. What is older is settled by an answer that
        is under way to another process of ours, or never.
        """
        mine = [
            loan
            for loan in self.loans
            if loan.predictor_key_sha256 == predictor_key_sha256 and (before is None or loan.number < before)
        ]
        untaken = [loan for loan in mine if loan.number > previous]
        loans = [
            loan.model_copy(update={"over": True}) if loan in mine else loan
            for loan in self.loans
            if loan not in untaken
        ]
        kept = self.model_copy(update={"loans": tuple(loans)})
        asked = max(0, unanswered + sum(loan.asked for loan in untaken))
        newest = kept.loan_to(predictor_key_sha256)
        newer = newest is not None and not newest.over
        return kept.asked_for(asked, predictor_key_sha256) if newer else kept

    def _caught_up(self, said: Settlement) -> "Ledger":
        """With what was spent up to the end of an opening that we have forgotten.

        It was told what had been spent before, and came after all loans to the same predictor that we know
        of. What was lent to others counts besides: perhaps twice, until they settle.
        """
        over = [
            loan
            for loan in self.loans
            if loan.predictor_key_sha256 == said.predictor_key_sha256 and loan.number < said.opening
        ]
        told = {one.id: one.spent for one in said.passes}
        passes = {**self.passes, **{name: max(self.passes.get(name, 0), told[name]) for name in told}}
        for loan in over:
            for name in loan.passes.keys() - told.keys():
                passes[name] = passes.get(name, 0) + loan.passes[name]
        return self.model_copy(
            update={
                "number": max(self.number, said.opening),
                "asked": max(self.asked, said.spent - sum(passes.values())),
                "passes": passes,
                "loans": tuple(loan for loan in self.loans if loan not in over),
                "numbers": tuple(sorted((*self.numbers, said.opening)))[-MAX_NUMBERS:],
            }
        )

    def _written_off(self, loan: Loan) -> "Ledger":
        return self._spent(loan, loan.asked, loan.passes)

    def _spent(self, loan: Loan, rows: int, passes: dict[Identifier, int]) -> "Ledger":
        """Without the loan, of which this was spent."""
        total = {**self.passes}
        for name, count in passes.items():
            total[name] = total.get(name, 0) + count
        loans = tuple(other for other in self.loans if other is not loan)
        return self.model_copy(update={"asked": self.asked + rows, "passes": total, "loans": loans})

    def _with(self, loan: Loan, changed: Loan) -> "Ledger":
        loans = tuple(changed if other is loan else other for other in self.loans)
        return self.model_copy(update={"loans": loans})


class Ledgers:
    """The ledgers in an owner's store."""

    def __init__(self, store: OwnerStore) -> None:
        self._store = store

    def begin(self, job: Identifier) -> None:
        """Make the ledger of a new job. Until it is granted, there is nothing to lend.

        Raises:
            SpecMismatch: there is one, of an earlier job of this id.
        """
        with self._alone(job) as path:
            if path.exists():
                raise SpecMismatch("the gateway answered with an earlier job of yours, not with a new one")
            write_private(path, Ledger(budget=0).model_dump_json(indent=1).encode())

    def read(self, job: Identifier) -> Ledger:
        """The job's ledger.

        Raises:
            LedgerMissing: there is none.
            RecordUnusable: it is malformed, or others can read it.
        """
        path = self._store.directory("ledgers") / f"{job}.json"
        if not path.exists():
            raise LedgerMissing(
                f"{path} is gone, which says what predictors of job {job} may have answered: none is lent. "
                "Put it back from a backup of this store; an older copy catches up with what predictors sign"
            )
        return read_private(path, Ledger)

    def budget(self, job: Identifier, rows: int | None) -> None:
        """Write down what the grant lets be answered in all, before it is sent.

        Raises:
            LedgerMissing, RecordUnusable: as `read`.
        """
        with self.changing(job) as change:
            change.ledger = change.ledger.model_copy(update={"budget": rows})

    @contextmanager
    def changing(self, job: Identifier) -> Iterator["Change"]:
        """The ledger, which nobody else changes meanwhile; what it was changed to is written at the end."""
        with self._alone(job) as path:
            change = Change(self.read(job))
            yield change
            write_private(path, change.ledger.model_dump_json(indent=1).encode())

    @contextmanager
    def _alone(self, job: Identifier) -> Iterator[Path]:
        directory = self._store.directory("ledgers")
        held = os.open(directory / f"{job}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            take(held)
            yield directory / f"{job}.json"
        finally:
            os.close(held)


class Change:
    """A ledger that is being changed: assign what it is to become."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
