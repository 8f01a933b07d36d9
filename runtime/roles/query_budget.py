"""How many rows a model has answered: sealed in the operator's storage, so that a restart resets nothing.

The host can still roll it back to an earlier state (docs/threat-model.md): a budget bounds an honest host's
clients, and makes a dishonest host's rollback visible in its storage.
"""

from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import ModelUnusable, SealingError
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.objects import query_budget


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
        self._stored = query_budget(moves)
        self._context = bytes.fromhex(job)
        self._sealer = sealer
        self._gateway = gateway
        self.spent = answered
        """Rows taken so far."""

    async def load(self) -> None:
        """Go on from what an earlier predictor stored.

        Raises:
            ModelUnusable: what is stored was not sealed by this job's predictor.
        """
        sealed = await self._gateway.find_object(self._stored.name, self._stored.stored_bytes)
        if sealed is None:
            return
        try:
            stored = self._sealer.open(sealed, context=self._context)
        except SealingError as error:
            raise ModelUnusable("budget-unreadable", "the stored budget was not sealed by us") from error
        self.spent = int.from_bytes(stored, "little")

    async def spend(self, rows: int) -> bool:
        """Take `rows` from the budget; false, and nothing taken, if it does not hold as many.

        It is stored before anything is answered: a crash in between costs budget, not secrecy.
        """
        if self.spent + rows > self._limit:
            return False
        self.spent += rows
        size = self._stored.content_bytes
        sealed = self._sealer.seal(self.spent.to_bytes(size, "little"), size=size, context=self._context)
        await self._gateway.put_object(self._stored.name, sealed)
        return True
