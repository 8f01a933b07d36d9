"""Who may ask an opened predictor, how much of the model each is told, and how many rows are left to each.

All of it comes from one opening. A newer one makes others in its place.
"""

from dataclasses import dataclass

from chiron.runtime.queries.query import OWNER
from chiron.wire.encoding import Identifier
from chiron.wire.grants import PredictionPolicy
from chiron.wire.opening import Opening, Settlement, Statement


@dataclass
class Asker:
    """One who may ask: the owner, or the holder of a pass."""

    key: bytes
    """Ed25519, 32 bytes: signs this asker's queries."""
    policy: PredictionPolicy
    """How much of the model's output this asker is told."""
    left: int | None
    """Rows that may still be answered; None is any number."""
    id: Identifier = OWNER
    """The pass's, or `OWNER`."""
    rows: int = 0
    """Rows answered so far."""


class Askers:
    """Those whom one opening lets ask."""

    def __init__(self, opening: Opening, owner: bytes, granted: PredictionPolicy) -> None:
        """`owner` is the model's owner's signing key, and `granted` what her grant says of predictions."""
        limits = [limit for limit in (opening.rows, granted.query_budget) if limit is not None]
        self.owner = Asker(owner, granted, min(limits, default=None))
        self._all = {OWNER: self.owner}
        self._opening = opening
        self._queries = 0
        self._rows = 0

    def find(self, asker: Identifier) -> Asker | None:
        """The one of this id, if they may ask."""
        return self._all.get(asker)

    def spend(self, asker: Asker, rows: int) -> Statement | None:
        """Take `rows` before they are answered, and state the counts; None, and nothing taken, if too few.

        Nothing is awaited in between, so that of queries at once none loses a count.
        """
        if asker.left is not None:
            if rows > asker.left:
                return None
            asker.left -= rows
        asker.rows += rows
        self._rows += rows
        self._queries += 1
        return Statement(
            job=self._opening.job,
            predictor_key_sha256=self._opening.predictor_key_sha256,
            opening=self._opening.number,
            queries=self._queries,
            rows=self._rows,
            pass_rows=asker.rows if asker.id != OWNER else None,
        )

    def settlement(self) -> Settlement:
        """What was answered to each. Nobody may be answered afterwards."""
        return Settlement(
            job=self._opening.job,
            predictor_key_sha256=self._opening.predictor_key_sha256,
            opening=self._opening.number,
            queries=self._queries,
            rows=self.owner.rows,
        )
