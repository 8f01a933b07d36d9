"""The parameter server's checkpoint in the operator's storage: its grant and the exchange's state, sealed.

A parameter server that crashed is launched again and goes on from it; the owner is not asked again. It is
written after every merge and publication, before any trainer is told of the result, so a trainer never knows
more than an honest host's latest checkpoint does: a host that serves an older one is found out as soon as a
trainer says what it has seen (`ps.server.ParameterServer.hello`).
"""

import asyncio
import struct

from pydantic import ValidationError

from ps import checkpoint
from ps.errors import CheckpointInvalid
from ps.server import ParameterServer
from runtime.channels.gateway import GatewayClient
from runtime.errors import GatewayRefused, InputCorrupted
from runtime.sealing.errors import SealingError
from runtime.sealing.sealer import OVERHEAD_BYTES, Sealer
from runtime.wire.grants import Grant
from runtime.wire.jobs import JobSpec

SERVER_CHECKPOINT_OBJECT = "checkpoint-parameter-server"
GRANT_ROOM_BYTES = 96 * 1024
"""Room for the grant: every checkpoint of a job is as long as every other."""
_LENGTH = struct.Struct("<I")


class ServerCheckpoint:
    """Saves and loads the state of one job's parameter server."""

    def __init__(self, spec: JobSpec, sealer: Sealer, gateway: GatewayClient) -> None:
        self._context = bytes.fromhex(spec.job) + bytes.fromhex(spec.digest())
        self._sealer = sealer
        self._gateway = gateway

    async def save(self, grant: Grant, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            TooLarge: the grant does not fit its room.
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        sealed = await asyncio.to_thread(self._seal, grant, server)
        await self._gateway.put_object(SERVER_CHECKPOINT_OBJECT, sealed)

    async def load(self, server: ParameterServer) -> Grant | None:
        """Put `server` into the stored state; the grant in it. None where there is no checkpoint.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this job that we sealed.
        """
        size = GRANT_ROOM_BYTES + len(checkpoint.dump(server))
        try:
            sealed = await self._gateway.get_object(SERVER_CHECKPOINT_OBJECT, size + OVERHEAD_BYTES)
        except GatewayRefused as error:
            if error.code != "object-unknown":
                raise
            return None
        try:
            content = await asyncio.to_thread(self._sealer.open, sealed, context=self._context)
            (length,) = _LENGTH.unpack_from(content)
            grant = Grant.model_validate_json(content[_LENGTH.size : _LENGTH.size + length])
            checkpoint.load(server, content[GRANT_ROOM_BYTES:])
        except (SealingError, CheckpointInvalid, ValidationError, struct.error) as error:
            # From None: a validation error would quote the grant, which holds the dataset key.
            code = getattr(error, "code", "checkpoint-invalid")
            raise InputCorrupted(code, "the stored checkpoint is not one that we sealed") from None
        return grant

    def _seal(self, grant: Grant, server: ParameterServer) -> bytes:
        told = grant.model_dump_json().encode()
        state = checkpoint.dump(server)
        size = GRANT_ROOM_BYTES + len(state)
        head = (_LENGTH.pack(len(told)) + told).ljust(GRANT_ROOM_BYTES, b"\0")
        # A grant beyond its room makes the content longer than `size`, which the sealer refuses.
        return self._sealer.seal(head + state, size=size, context=self._context)
