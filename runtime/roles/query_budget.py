"""How many rows a model has answered: sealed in the operator's storage, so that a restart resets nothing.

The host can still roll it back to an earlier state (docs/threat-model.md): a budget bounds an honest host's
clients, and makes a dishonest host's rollback visible in its storage.
"""

from runtime.channels.gateway import GatewayClient
from runtime.errors import ModelUnusable
from runtime.sealing.errors import SealingError
from runtime.sealing.sealer import OVERHEAD_BYTES, Sealer

BUDGET_OBJECT = "state-query-budget"
_COUNT_BYTES = 8


class QueryBudget:
    """Counts the rows that one job's model answers, against the owner's limit."""

    def __init__(self, limit: int, job: str, sealer: Sealer, gateway: GatewayClient) -> None:
        self._limit = limit
        self._context = bytes.fromhex(job)
        self._sealer = sealer
        self._gateway = gateway
        self._spent = 0

    async def load(self) -> None:
        """Go on from what an earlier predictor stored.

        Raises:
            ModelUnusable: what is stored was not sealed by this job's predictor.
        """
        limit = _COUNT_BYTES + OVERHEAD_BYTES
        sealed = await self._gateway.find_object(BUDGET_OBJECT, limit)
        if sealed is None:
            return
        try:
            stored = self._sealer.open(sealed, context=self._context)
        except SealingError as error:
            raise ModelUnusable("budget-unreadable", "the stored budget was not sealed by us") from error
        self._spent = int.from_bytes(stored, "little")

    async def spend(self, rows: int) -> bool:
        """Take `rows` from the budget; false, and nothing taken, if it does not hold as many.

        It is stored before anything is answered: a crash in between costs budget, not secrecy.
        """
        if self._spent + rows > self._limit:
            return False
        self._spent += rows
        content = self._spent.to_bytes(_COUNT_BYTES, "little")
        sealed = self._sealer.seal(content, size=_COUNT_BYTES, context=self._context)
        await self._gateway.put_object(BUDGET_OBJECT, sealed)
        return True
