"""Checkpoints of the parameter server and its shards in the operator's storage, sealed.

They hold the exchange's state. They are bound to the owner's grant, and sealed under her share too: whoever
is started again opens them with what the owner sends again, and they hold neither her grant nor her data's
key. Where she chose that the job goes on without her (`Restarts.ALONE`), the parameter server's holds the
grant and is sealed to the processor alone, until the job's end.

It is written after every merge and publication, before any trainer is told of the result, so a trainer never
knows more than an honest host's latest checkpoint does: a host that serves an older one is found out as soon
as a trainer says what it has seen (`chiron.ps.server.ParameterServer.hello`).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from chiron.ps import checkpoint
from chiron.ps.errors import CheckpointInvalid
from chiron.ps.server import ParameterServer
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import InputCorrupted, OpenFailed, SealedElsewhere, SealingError
from chiron.runtime.roles.grant import grant_name
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import codes
from chiron.wire.encoding import WireModel
from chiron.wire.grants import Grant, Restarts
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import CHECKPOINT
from chiron.wire.machines import MachineKey
from chiron.wire.objects import server_checkpoint, shard_checkpoint


class _Head(WireModel):
    grant: Grant | None = None
    """With `Restarts.ALONE` only, and not at the job's end."""
    ended: bool = False


class _Nothing(WireModel):
    """A shard has nothing to say besides its state."""


@dataclass(frozen=True)
class Kept:
    """What a parameter server that ended has left."""

    ended: bool
    """The schedule was over: nobody is served any more."""
    grant: Grant | None = None
    """What it goes on with. None where its owner must send it again, or where the job has ended."""


class ServerCheckpoint:
    """Saves and loads the state of one job's parameter server."""

    def __init__(self, spec: JobSpec, platform: Platform, gateway: GatewayClient) -> None:
        self._spec = spec
        self._platform = platform
        self._gateway = gateway
        self._locked = b""
        """What is stored, until its owner's share opens it."""

    async def save(self, grant: Grant, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            TooLarge: the grant does not fit its room.
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        record = self._record(grant)
        head = _Head(grant=grant if grant.restarts is Restarts.ALONE else None)
        content = await asyncio.to_thread(lambda: record.encode(head, checkpoint.dump(server)))
        await record.store(self._gateway, content)

    async def forget(self, grant: Grant) -> None:
        """Store, in place of it all, that the job has ended."""
        record = self._record(grant)
        await record.store(self._gateway, record.encode(_Head(ended=True), b""))

    async def load(self, server: ParameterServer) -> Kept | None:
        """Put `server` into the stored state, if that needs no owner. None where there is no checkpoint.

        Raises:
            InputCorrupted: what is stored is no checkpoint of a parameter server.
        """
        stored = self._record(None).stored
        sealed = await self._gateway.find_object(stored.name, stored.stored_bytes)
        if sealed is None:
            return None
        try:
            return await self._open(sealed, None, server)
        except OpenFailed:
            self._locked = sealed
        except (SealingError, CheckpointInvalid):
            raise _invalid() from None
        return Kept(ended=False)

    async def unlock(self, grant: Grant, server: ParameterServer) -> Kept:
        """Put `server` into the state that `load` left locked. It stays locked to another grant.

        Raises:
            InputCorrupted: it was not saved under this grant, or not for this machine, or was altered.
        """
        try:
            kept = await self._open(self._locked, grant, server)
        except SealedElsewhere as error:
            raise InputCorrupted(codes.SEALED_ELSEWHERE, str(error)) from None
        except (SealingError, CheckpointInvalid):
            raise _invalid() from None
        self._locked = b""
        return kept

    async def _open(self, sealed: bytes, grant: Grant | None, server: ParameterServer) -> Kept:
        head, (state,) = await asyncio.to_thread(self._record(grant).open, sealed)
        if not head.ended:
            checkpoint.load(server, bytes(state))
        return Kept(head.ended, head.grant)

    def _record(self, grant: Grant | None) -> SealedRecord[_Head]:
        """The record under this grant; without one, or where it says so, to the processor alone."""
        context = bytes.fromhex(self._spec.job) + bytes.fromhex(self._spec.digest())
        sealer = Sealer(self._platform, CHECKPOINT)
        if grant is not None and grant.restarts is Restarts.OWNER:
            context += grant_name(grant, self._spec.digest())
            sealer = Sealer(self._platform, CHECKPOINT, grant.share, machines=grant.machines)
        return SealedRecord(server_checkpoint(self._spec), _Head, sealer, context)


class ShardCheckpoint:
    """Saves and loads the state of one other shard. It opens under the grant that it was saved under only."""

    def __init__(
        self,
        spec: JobSpec,
        index: int,
        grant_name: bytes,
        share: bytes,
        platform: Platform,
        gateway: GatewayClient,
        machines: Sequence[MachineKey] = (),
    ) -> None:
        """`share` is the shard's own (`chiron.runtime.channels.enrolment.shard_share`)."""
        context = bytes.fromhex(spec.job) + bytes.fromhex(spec.digest()) + grant_name + bytes([index])
        sealer = Sealer(platform, CHECKPOINT, share, machines=machines)
        self._record = SealedRecord(shard_checkpoint(spec, index), _Nothing, sealer, context)
        self._gateway = gateway

    async def save(self, server: ParameterServer) -> None:
        """Seal and store the state as it is.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        content = await asyncio.to_thread(lambda: self._record.encode(_Nothing(), checkpoint.dump(server)))
        await self._record.store(self._gateway, content)

    async def load(self, server: ParameterServer) -> None:
        """Put `server` into the stored state, if there is one.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this shard and grant that we sealed.
        """
        try:
            found = await self._record.load(self._gateway)
            if found is not None:
                _, (state,) = found
                checkpoint.load(server, bytes(state))
        except (SealingError, CheckpointInvalid):
            raise _invalid() from None


def _invalid() -> InputCorrupted:
    return InputCorrupted("checkpoint-invalid", "the stored checkpoint is not one that we sealed")
