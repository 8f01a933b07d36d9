"""A predictor's state besides the model: the keys of its start, and the count of rows answered.

The count is sealed in the operator's storage, so that a restart resets nothing. The host can still roll it
back to an earlier state (docs/threat-model.md): a budget bounds an honest host's clients, and makes a
dishonest host's rollback visible in its storage.
"""

import asyncio

from pydantic import Field

from chiron.runtime.attestation.platform import Platform, attest
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import ModelUnusable, SealingError
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.encoding import WireModel, sha256_hex
from chiron.wire.objects import query_budget
from chiron.wire.p256 import generate_key, public_key_der


class PredictorKeys:
    """Made in the enclave, and gone with it."""

    def __init__(self, platform: Platform, job: str) -> None:
        self.key = PrivateKey.generate()
        """Queries, and a model that moves here, are sealed to it."""
        self.tls_key = generate_key()
        """The TLS key of the predictor's own door."""
        self._platform = platform
        self._job = job

    def evidence(self, nonce: bytes, owner: bytes | None = None) -> Evidence:
        """Fresh evidence; `owner` is the signing key of the model's owner, None where there is none yet."""
        claims = Claims(
            role=Role.PREDICTOR,
            job=self._job,
            hpke_public_key=self.key.public_bytes,
            tls_public_key_sha256=sha256_hex(public_key_der(self.tls_key.public_key())),
            owner_key_sha256=sha256_hex(owner) if owner is not None else None,
            nonce=nonce,
        )
        return attest(self._platform, claims)


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
        """Begin with the `answered` rows of before the model's last move. It has moved `moves` times."""
        self._limit = limit
        self._record = SealedRecord(query_budget(moves), _Count, sealer, bytes.fromhex(job))
        self._gateway = gateway
        self._spending = asyncio.Lock()
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
        # One at a time: of two counts on their way to the host, the lower one could be the last to arrive.
        async with self._spending:
            if self.spent + rows > self._limit:
                return False
            self.spent += rows
            await self._record.store(self._gateway, self._record.encode(_Count(rows=self.spent)))
            return True
