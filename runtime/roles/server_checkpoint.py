"""Checkpoints of the parameter server and its shards in the operator's storage, sealed.

They hold the exchange's state, and the parameter server's the grant. A shard's is bound to that grant.

A parameter server that crashed is launched again and goes on from it; the owner is not asked again. It is
written after every merge and publication, before any trainer is told of the result, so a trainer never knows
more than an honest host's latest checkpoint does: a host that serves an older one is found out as soon as a
trainer says what it has seen (`chiron.ps.server.ParameterServer.hello`).
"""

import asyncio
import struct

from pydantic import ValidationError

from chiron.ps import checkpoint
from chiron.ps.errors import CheckpointInvalid
from chiron.ps.server import ParameterServer
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import InputCorrupted, SealingError, TooLarge
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import CHECKPOINT
from chiron.wire.objects import StoredObject, server_checkpoint, shard_checkpoint

_LENGTH = struct.Struct("<I")


class _Checkpoint:
    """The state of one server behind a head of fixed room, sealed as one object."""

    def __init__(
        self, stored: StoredObject, context: bytes, platform: Platform, gateway: GatewayClient
    ) -> None:
        self._stored = stored
        self._context = context
        self._sealer = Sealer(platform, CHECKPOINT)
        self._gateway = gateway

    async def _save(self, told: bytes, server: ParameterServer) -> None:
        sealed = await asyncio.to_thread(self._seal, told, server)
        await self._gateway.put_object(self._stored.name, sealed)

    def _seal(self, told: bytes, server: ParameterServer) -> bytes:
        state = checkpoint.dump(server)
        room = self._stored.head_bytes
        head = (_LENGTH.pack(len(told)) + told).ljust(room, b"\0")
        if len(head) > room:
            raise TooLarge("the grant does not fit its room")
        return self._sealer.seal(head + state, size=self._stored.content_bytes, context=self._context)

    async def _load(self, server: ParameterServer) -> bytes | None:
        sealed = await self._gateway.find_object(self._stored.name, self._stored.stored_bytes)
        if sealed is None:
            return None
        try:
            content = await asyncio.to_thread(self._sealer.open, sealed, context=self._context)
            (length,) = _LENGTH.unpack_from(content)
            checkpoint.load(server, content[self._stored.head_bytes :])
        except (SealingError, CheckpointInvalid, struct.error) as error:
            raise _not_ours(error) from None
        return content[_LENGTH.size : _LENGTH.size + length]


class ServerCheckpoint(_Checkpoint):
    """Saves and loads the state of one job's parameter server."""

    def __init__(self, spec: JobSpec, platform: Platform, gateway: GatewayClient) -> None:
        context = bytes.fromhex(spec.job) + bytes.fromhex(spec.digest())
        super().__init__(server_checkpoint(spec), context, platform, gateway)

    async def save(self, grant: Grant, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            TooLarge: the grant does not fit its room.
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        await self._save(grant.model_dump_json().encode(), server)

    async def load(self, server: ParameterServer) -> Grant | None:
        """Put `server` into the stored state; the grant in it. None where there is no checkpoint.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this job that we sealed.
        """
        told = await self._load(server)
        try:
            return None if told is None else Grant.model_validate_json(told)
        except ValidationError as error:
            # From None: a validation error would quote the grant, which holds the dataset key.
            raise _not_ours(error) from None


class ShardCheckpoint(_Checkpoint):
    """Saves and loads the state of one other shard. It opens under the grant that it was saved under only."""

    def __init__(
        self, spec: JobSpec, index: int, grant_name: bytes, platform: Platform, gateway: GatewayClient
    ) -> None:
        context = bytes.fromhex(spec.job) + bytes.fromhex(spec.digest()) + grant_name + bytes([index])
        super().__init__(shard_checkpoint(spec, index), context, platform, gateway)

    async def save(self, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        await self._save(b"", server)

    async def load(self, server: ParameterServer) -> None:
        """Put `server` into the stored state, if there is one.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this shard and grant that we sealed.
        """
        await self._load(server)


def _not_ours(error: Exception) -> InputCorrupted:
    code = getattr(error, "code", "checkpoint-invalid")
    return InputCorrupted(code, "the stored checkpoint is not one that we sealed")
