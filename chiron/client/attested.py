"""What predictors attest that they answered: the last signed statement and the settlement of each opening.

Kept in the owner's store, `attested/JOB.json`, each with the digest of the TLS key that verified evidence
named. Whoever has that evidence can check the signatures anew; the operator's word is not needed.
"""

import os
from collections.abc import Sequence

from pydantic import Field

from chiron.client.locking import lock
from chiron.client.store import OwnerStore, read_private, write_private
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import check_signed
from chiron.wire.encoding import Digest, Identifier, WireModel
from chiron.wire.opening import SignedSettlement, SignedStatement

MAX_OPENINGS = 1024
"""Of one job; the oldest are dropped beyond."""


class AttestedOpening(WireModel):
    """One opening of one predictor, as that predictor attests it."""

    opening: int
    predictor_key_sha256: Digest
    tls_key_sha256: Digest
    """From evidence that was verified; of the key that signs."""
    statement: SignedStatement | None = None
    """The last that came with an answer of ours."""
    settlement: SignedSettlement | None = None
    """Its last word: nothing more was answered under this opening."""


class AttestedAnswers(WireModel):
    """Everything of one job, in the order of the openings."""

    job: Identifier
    openings: tuple[AttestedOpening, ...] = Field(default=(), max_length=MAX_OPENINGS)


class AttestedBook:
    """The records in an owner's store, one a job. They hold no key and no row."""

    def __init__(self, store: OwnerStore) -> None:
        self._store = store

    def read(self, job: Identifier) -> Sequence[AttestedOpening]:
        """What was kept of the job; each signature is checked again.

        Raises:
            RecordUnusable: the record cannot be trusted.
            StatementInvalid: one was not signed by the key that it is kept under.
        """
        path = self._store.root / "attested" / f"{job}.json"
        if not path.exists():
            return ()
        openings = read_private(path, AttestedAnswers).openings
        for one in openings:
            for signed in (one.statement, one.settlement):
                if signed is not None:
                    check_signed(signed, one.tls_key_sha256)
        return openings

    def last(self, job: Identifier, predictor_key_sha256: Digest) -> SignedStatement | None:
        """The newest statement of this start of a predictor; raises as `read`."""
        mine = [
            one.statement
            for one in self.read(job)
            if one.statement is not None and one.predictor_key_sha256 == predictor_key_sha256
        ]
        return max(mine, key=order, default=None)

    def keep(self, signed: SignedStatement | SignedSettlement, tls_key_sha256: Digest) -> None:
        """Keep a statement that is newer than the one of its opening, or a settlement.

        Raises:
            StatementInvalid: this key did not sign it.
            RecordUnusable: the record cannot be trusted.
        """
        check_signed(signed, tls_key_sha256)
        said = signed.statement if isinstance(signed, SignedStatement) else signed.settlement
        directory = self._store.directory("attested")
        held = os.open(directory / f"{said.job}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock(held)
            found = {(one.opening, one.predictor_key_sha256): one for one in self.read(said.job)}
            place = said.opening, said.predictor_key_sha256
            before = found.get(place) or AttestedOpening(
                opening=said.opening,
                predictor_key_sha256=said.predictor_key_sha256,
                tls_key_sha256=tls_key_sha256,
            )
            found[place] = _with(before, signed)
            kept = sorted(found.values(), key=lambda one: one.opening)[-MAX_OPENINGS:]
            record = AttestedAnswers(job=said.job, openings=tuple(kept))
            write_private(directory / f"{said.job}.json", record.model_dump_json(indent=1).encode())
        finally:
            os.close(held)


def order(signed: SignedStatement) -> tuple[int, int]:
    """By which statements of one start of a predictor ascend."""
    return signed.statement.opening, signed.statement.queries


def check_follows(signed: SignedStatement, before: SignedStatement | None, rows: int) -> None:
    """Check that a statement counts `rows` on top of what was attested before they were asked.

    Others may be answered in between: more is no fault.

    Raises:
        StatementInvalid: its counts go back, or leave out what was answered.
    """
    if before is None:
        queries_then, rows_then = 0, 0
    elif signed.statement.opening < before.statement.opening:
        raise StatementInvalid("the predictor speaks of an earlier opening than before")
    elif signed.statement.opening > before.statement.opening:
        queries_then, rows_then = 0, 0
    else:
        queries_then, rows_then = before.statement.queries, before.statement.rows
    if signed.statement.queries <= queries_then or signed.statement.rows < rows_then + rows:
        raise StatementInvalid("the predictor attests less than it has answered")


def _with(before: AttestedOpening, signed: SignedStatement | SignedSettlement) -> AttestedOpening:
    if isinstance(signed, SignedSettlement):
        return before.model_copy(update={"settlement": signed})
    if before.statement is not None and order(signed) <= order(before.statement):
        return before
    return before.model_copy(update={"statement": signed})
