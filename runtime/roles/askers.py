"""Who may ask an opened predictor, how much of the model each is told, and how many rows are left to each.

All of it comes from one opening. A newer one makes others in its place.
"""

from collections.abc import Collection
from dataclasses import dataclass

from chiron.runtime.queries.answer import AnswerOutcome
from chiron.wire.encoding import Identifier
from chiron.wire.grants import PredictionPolicy
from chiron.wire.opening import MOST_ROWS, OWNER, Opening, Pass, PassLease, PassRows, Settlement, Statement


@dataclass
class Asker:
    """One who may ask: the owner, or the holder of a pass."""

    key: bytes
    """Ed25519, 32 bytes: signs this asker's queries."""
    policy: PredictionPolicy
    """How much of the model's output this asker is told."""
    left: int | None
    """Rows that may still be answered; None is any number."""
    until: int | None = None
    """Seconds since 1970: nothing is answered from then on; None is the opening's end."""
    id: Identifier = OWNER
    """The pass's, or `OWNER`."""
    rows: int = 0
    """Rows answered so far."""


class Askers:
    """Those whom one opening lets ask."""

    def __init__(self, opening: Opening, owner: bytes, granted: PredictionPolicy, previous: int = 0) -> None:
        """`owner` is the model's owner's signing key, and `granted` what her grant says of predictions.

        `previous` is the number of the opening that was taken before.
        """
        self.owner = Asker(owner, granted, opening.rows)
        holders = [_holder(lease, granted) for lease in opening.passes]
        self._all = {asker.id: asker for asker in (self.owner, *holders)}
        self._opening = opening
        self._previous = previous
        self._left = granted.query_budget
        self._queries = 0
        self._rows = 0

    @property
    def ids(self) -> Collection[Identifier]:
        """Of all who may ask."""
        return self._all.keys()

    def find(self, asker: Identifier) -> Asker | None:
        """The one of this id, if they may ask."""
        return self._all.get(asker)

    def key_of(self, asker: Identifier) -> bytes | None:
        """Their Ed25519 public key, if they may ask."""
        found = self.find(asker)
        return found.key if found is not None else None

    def spend(self, asker: Asker, rows: int, now: int) -> Statement | AnswerOutcome:
        """Take `rows` before they are answered, and state the counts; or say why nothing was taken.

        A pass holds to its own rows and its own end, and everybody together to the grant's budget. Nothing is
        awaited in between, so that of queries at once none loses a count.
        """
        if asker.until is not None and now >= asker.until:
            return AnswerOutcome.PASS_EXPIRED
        if self._left is not None and rows > self._left:
            return AnswerOutcome.BUDGET_EXHAUSTED
        if asker.left is not None:
            if rows > asker.left:
                return AnswerOutcome.BUDGET_EXHAUSTED if asker is self.owner else AnswerOutcome.PASS_EXHAUSTED
            asker.left -= rows
        if self._left is not None:
            self._left -= rows
        asker.rows += rows
        self._rows += rows
        self._queries += 1
        return Statement(
            job=self._opening.job,
            predictor_key_sha256=self._opening.predictor_key_sha256,
            opening=self._opening.number,
            queries=self._queries,
            rows=self._rows,
            pass_rows=None if asker is self.owner else asker.rows,
        )

    def left(self, asker: Asker) -> int | None:
        """Rows that this asker may still be answered, if the others ask for none; None is any number."""
        limits = [limit for limit in (asker.left, self._left) if limit is not None]
        return min(limits, default=None)

    def settlement(self) -> Settlement:
        """What was answered to each. Nobody may be answered afterwards."""
        before = {lease.allowed.id: lease.spent for lease in self._opening.passes}
        passes = [
            PassRows(id=name, rows=rows, spent=min(spent + rows, MOST_ROWS))
            for name, spent in before.items()
            for rows in (self._all[name].rows,)
        ]
        return Settlement(
            job=self._opening.job,
            predictor_key_sha256=self._opening.predictor_key_sha256,
            opening=self._opening.number,
            previous=self._previous,
            queries=self._queries,
            rows=self.owner.rows,
            spent=min(self._opening.spent + self._rows, MOST_ROWS),
            passes=tuple(passes),
        )


def narrowed(granted: PredictionPolicy, allowed: Pass) -> PredictionPolicy:
    """What a pass lets through of what its owner's grant lets through: never more than either."""
    limits = [limit for limit in (granted.top_k, allowed.top_k) if limit]
    return granted.model_copy(
        update={"top_k": min(limits, default=0), "decimals": min(granted.decimals, allowed.decimals)}
    )


def _holder(lease: PassLease, granted: PredictionPolicy) -> Asker:
    allowed = lease.allowed
    return Asker(
        allowed.holder, narrowed(granted, allowed), min(lease.rows, allowed.rows), allowed.until, allowed.id
    )
