"""How many rows a model has answered: sealed in the operator's storage, so that a restart resets nothing.

The host can still roll it back to an earlier state (docs/threat-model.md): a budget bounds an honest host's
clients, and makes a dishonest host's rollback visible in its storage.
"""

from pydantic import Field

from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import ModelUnusable, SealingError
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.encoding import WireModel
from chiron.wire.objects import query_budget


class _Count(WireModel):
    rows: int = Field(ge=0)


class QueryBudget:
    """Counts the rows that one job's model answers, against the owner's limit."""

    def __init__(
        self,
        limit: int,
        job: str,
        sealer: Sealer,
        gateway: GatewayClient,
        *,
        moves: int = 0,
        answered: int = 0,
    ) -> None:
        """`answered` rows were taken before the model's last move, and it has moved `moves` times."""
        self._limit = limit
        self._record = SealedRecord(query_budget(moves), _Count, sealer, bytes.fromhex(job))
        self._gateway = gateway
        self.spent = answered
        """Rows taken so far."""

    async def load(self) -> None:
        """Go on from what an earlier predictor stored.

        Raises:
            ModelUnusable: what is stored was not sealed by this job's predictor.
        """
        try:
            stored = await self._record.load(self._gateway)
        except SealingError as error:
            raise ModelUnusable("budget-unreadable", "the stored budget was not sealed by us") from error
        if stored is not None:
            self.spent = stored[0].rows

    async def spend(self, rows: int) -> bool:
        """Take `rows` from the budget; false, and nothing taken, if it does not hold as many.

        It is stored before anything is answered: a crash in between costs budget, not secrecy.
        """
        if self.spent + rows > self._limit:
            return False
        self.spent += rows
        await self._record.store(self._gateway, self._record.encode(_Count(rows=self.spent)))
        return True
