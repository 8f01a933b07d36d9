"""What an owner has lent to opened predictors: one ledger a job, in her store, where no host sets it back.

An opening lends rows to one start of one predictor. It is written down before it is sent, and the owner's own
queries before they are asked. Whatever was lent counts as spent until a settlement, signed by that very
predictor, says what was answered; a predictor that is killed gives nothing back.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import Field

from chiron.client.locking import lock as take
from chiron.client.store import OwnerStore, read_private, write_private
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import check_signed
from chiron.wire.encoding import Digest, Identifier, WireModel
from chiron.wire.opening import SignedSettlement, Time

MAX_LOANS = 64
"""Openings that wait to be settled. What an older one lent stays spent."""


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
        """The newest loan to this start of a predictor."""
        mine = [loan for loan in self.loans if loan.predictor_key_sha256 == predictor_key_sha256]
        return max(mine, key=lambda loan: loan.number, default=None)

    def lent(self, loan: Loan) -> "Ledger":
        """With one more loan."""
        kept = self.model_copy(update={"number": loan.number, "loans": (*self.loans, loan)})
        while len(kept.loans) > MAX_LOANS:
            kept = kept._written_off(kept.loans[0])
        return kept

    def taken(self, number: int) -> "Ledger":
        """With the word of the predictor that it took the opening of this number."""
        loan = next((loan for loan in self.loans if loan.number == number), None)
        return self._with(loan, loan.model_copy(update={"taken": True})) if loan is not None else self

    def asked_for(self, rows: int, predictor_key_sha256: Digest) -> "Ledger":
        """With `rows` of our own, about to be asked of this start of a predictor."""
        loan = self.loan_to(predictor_key_sha256)
        if loan is None:
            return self.model_copy(update={"asked": self.asked + rows})
        return self._with(loan, loan.model_copy(update={"asked": loan.asked + rows}))

    def settled(self, signed: SignedSettlement) -> "Ledger":
        """With one loan settled; a settlement of none that is open changes nothing.

        Raises:
            StatementInvalid: the predictor that had the loan did not sign it.
        """
        said = signed.settlement
        loan = next((loan for loan in self.loans if loan.number == said.opening), None)
        if loan is None:
            return self
        if loan.predictor_key_sha256 != said.predictor_key_sha256:
            raise StatementInvalid("the settlement is another predictor's")
        check_signed(signed, loan.tls_key_sha256)
        passes = {one.id: one.rows for one in said.passes}
        kept = self._spent(loan, said.rows, passes)
        later = kept.loan_to(said.predictor_key_sha256)
        unanswered = max(0, loan.asked - said.rows)
        # What we asked for, and the newer opening came first: that one answers it.
        return kept.asked_for(unanswered, said.predictor_key_sha256) if later is not None else kept

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

    def read(self, job: Identifier) -> Ledger:
        """The job's ledger; an empty one where nothing was lent yet.

        Raises:
            RecordUnusable: it is malformed, or others can read it.
        """
        path = self._store.directory("ledgers") / f"{job}.json"
        return read_private(path, Ledger) if path.exists() else Ledger()

    def budget(self, job: Identifier, rows: int | None) -> None:
        """Write down what the grant lets be answered in all, before it is sent."""
        with self.changing(job) as change:
            change.ledger = change.ledger.model_copy(update={"budget": rows})

    @contextmanager
    def changing(self, job: Identifier) -> Iterator["Change"]:
        """The ledger, which nobody else changes meanwhile; what it was changed to is written at the end."""
        directory = self._store.directory("ledgers")
        held = os.open(directory / f"{job}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            take(held)
            change = Change(self.read(job))
            yield change
            write_private(directory / f"{job}.json", change.ledger.model_dump_json(indent=1).encode())
        finally:
            os.close(held)


class Change:
    """A ledger that is being changed: assign what it is to become."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
