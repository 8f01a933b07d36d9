"""Checkpoints of the parameter server and its shards in the operator's storage, sealed.

They hold the exchange's state, and the parameter server's the grant. A shard's is bound to that grant.

A parameter server that crashed is launched again and goes on from it; the owner is not asked again. It is
written after every merge and publication, before any trainer is told of the result, so a trainer never knows
more than an honest host's latest checkpoint does: a host that serves an older one is found out as soon as a
trainer says what it has seen (`chiron.ps.server.ParameterServer.hello`).
"""

import asyncio
from typing import Generic

from chiron.ps import checkpoint
from chiron.ps.errors import CheckpointInvalid
from chiron.ps.server import ParameterServer
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import InputCorrupted, SealingError
from chiron.runtime.roles.sealed_record import Head, SealedRecord
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.encoding import WireModel
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import CHECKPOINT
from chiron.wire.objects import StoredObject, server_checkpoint, shard_checkpoint


class _Nothing(WireModel):
    """A shard has nothing to say besides its state."""


class _Checkpoint(Generic[Head]):
    """The state of one server behind a head, sealed as one object."""

    def __init__(
        self,
        stored: StoredObject,
        head: type[Head],
        context: bytes,
        platform: Platform,
        gateway: GatewayClient,
    ) -> None:
        self._record = SealedRecord(stored, head, Sealer(platform, CHECKPOINT), context)
        self._gateway = gateway

    async def _save(self, head: Head, server: ParameterServer) -> None:
        content = await asyncio.to_thread(lambda: self._record.encode(head, checkpoint.dump(server)))
        await self._record.store(self._gateway, content)

    async def _load(self, server: ParameterServer) -> Head | None:
        try:
            found = await self._record.load(self._gateway)
            if found is None:
                return None
            head, (state,) = found
            checkpoint.load(server, bytes(state))
        except (SealingError, CheckpointInvalid) as error:
            code = getattr(error, "code", "checkpoint-invalid")
            raise InputCorrupted(code, "the stored checkpoint is not one that we sealed") from None
        return head


class ServerCheckpoint(_Checkpoint[Grant]):
    """Saves and loads the state of one job's parameter server."""

    def __init__(self, spec: JobSpec, platform: Platform, gateway: GatewayClient) -> None:
        context = bytes.fromhex(spec.job) + bytes.fromhex(spec.digest())
        super().__init__(server_checkpoint(spec), Grant, context, platform, gateway)

    async def save(self, grant: Grant, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            TooLarge: the grant does not fit its room.
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        await self._save(grant, server)

    async def load(self, server: ParameterServer) -> Grant | None:
        """Put `server` into the stored state; the grant in it. None where there is no checkpoint.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this job that we sealed.
        """
        return await self._load(server)


class ShardCheckpoint(_Checkpoint[_Nothing]):
    """Saves and loads the state of one other shard. It opens under the grant that it was saved under only."""

    def __init__(
        self, spec: JobSpec, index: int, grant_name: bytes, platform: Platform, gateway: GatewayClient
    ) -> None:
        context = bytes.fromhex(spec.job) + bytes.fromhex(spec.digest()) + grant_name + bytes([index])
        super().__init__(shard_checkpoint(spec, index), _Nothing, context, platform, gateway)

    async def save(self, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        await self._save(_Nothing(), server)

    async def load(self, server: ParameterServer) -> None:
        """Put `server` into the stored state, if there is one.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this shard and grant that we sealed.
        """
        await self._load(server)
