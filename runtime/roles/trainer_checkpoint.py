"""A trainer's checkpoint in the operator's storage: what it needs to repeat its work since the last merge.

Before each exchange k it holds the state that the steps before k begin with. It is stored while these steps
are taken, and before the change goes out. So whenever the trainer crashes, the server is

- at k: the steps are taken again, with the same outcome, and sent; or
- at k + 1: they are taken again, and the server answers the change, which it has, from its last merge.

Either way not a bit differs from a job without the crash. Every other k was rolled back by the host, and is
refused. All is of one size a job, whatever graph and recipe are, and whether there is a plan at all.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import InputCorrupted, SealingError
from chiron.runtime.roles.grant import name_of
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import codes
from chiron.wire.encoding import WireModel
from chiron.wire.jobs import JobSpec
from chiron.wire.objects import (
    MAX_TRAINER_CHECKPOINT_BYTES,
    keeps_trainer_checkpoints,
    trainer_checkpoint,
)

_LENGTH = struct.Struct("<I")


class Kept(Protocol):
    """The exchange's client: see `chiron.ps.client.ParameterClient.kept`."""

    @property
    def kept(self) -> dict[str, NDArray[np.float32]]:
        """Its arrays, of one size a job."""
        ...


@dataclass(frozen=True)
class SavedTrainer:
    """A checkpoint's content."""

    trial: int
    exchange: int
    """The next one."""
    failure: str | None
    learner: bytes
    """`Learner.state()`; empty where the run is idle."""
    client: memoryview
    """The client's arrays, one after the other."""


class _Head(WireModel):
    trial: int = Field(ge=0, le=63)
    exchange: int = Field(ge=0, le=100_000)
    failure: str | None = Field(max_length=64)
    learner_bytes: int = Field(ge=0, le=MAX_TRAINER_CHECKPOINT_BYTES)


class TrainerCheckpoint:
    """Saves and loads the state of one trainer, if its job keeps it."""

    def __init__(
        self, ticket: Ticket, index: int, client: Kept, sealer: Sealer, gateway: GatewayClient
    ) -> None:
        spec = ticket.spec
        self._stored = trainer_checkpoint(spec, index)
        self._context = checkpoint_context(ticket) + _LENGTH.pack(index)
        self._client = client
        self._sealer = sealer
        self._gateway = gateway
        self._client_at = self._stored.head_bytes + self._stored.part_bytes[0]
        self.kept = keeps_trainer_checkpoints(spec)
        """Whether there are any; public."""

    async def snapshot(self, exchange: int, run: TrialRun) -> bytearray:
        """The state as it is, before the steps that are due before `exchange`; secret."""
        return await asyncio.to_thread(self._snapshot, exchange, run)

    async def store(self, content: bytearray) -> None:
        """Seal and store a snapshot.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        size = self._stored.content_bytes
        sealed = await asyncio.to_thread(self._sealer.seal, content, size=size, context=self._context)
        await self._gateway.put_object(self._stored.name, sealed)

    async def load(self) -> SavedTrainer | None:
        """The stored checkpoint; None where there is none, or the job keeps none.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this trainer that we sealed.
        """
        if not self.kept:
            return None
        sealed = await self._gateway.find_object(self._stored.name, self._stored.stored_bytes)
        if sealed is None:
            return None
        try:
            content = await asyncio.to_thread(self._sealer.open, sealed, context=self._context)
            (length,) = _LENGTH.unpack_from(content)
            head = _Head.model_validate_json(content[_LENGTH.size : _LENGTH.size + length])
        except (SealingError, ValidationError, struct.error):
            raise checkpoint_invalid() from None
        learner = content[self._stored.head_bytes :][: head.learner_bytes]
        client = memoryview(content)[self._client_at :]
        return SavedTrainer(head.trial, head.exchange, head.failure, learner, client)

    def fill_client(self, saved: SavedTrainer) -> None:
        """Give the exchange's client its arrays back.

        Raises:
            InputCorrupted: they are not of this job's sizes.
        """
        at = 0
        for array in self._client.kept.values():
            found = np.frombuffer(saved.client[at : at + array.nbytes], array.dtype)
            if found.shape != array.shape:
                raise checkpoint_invalid()
            array[:] = found
            at += array.nbytes

    def _snapshot(self, exchange: int, run: TrialRun) -> bytearray:
        content = bytearray(self._stored.content_bytes)
        with memoryview(content)[self._stored.head_bytes : self._client_at] as room:
            learner_bytes = run.state_into(room)
        head = _Head(
            trial=run.trial, exchange=exchange, failure=run.failure, learner_bytes=learner_bytes
        ).model_dump_json()
        content[: _LENGTH.size] = _LENGTH.pack(len(head))
        content[_LENGTH.size : _LENGTH.size + len(head)] = head.encode()
        at = self._client_at
        for array in self._client.kept.values():
            content[at : at + array.nbytes] = array.view(np.uint8).data
            at += array.nbytes
        return content


def checkpoint_context(ticket: Ticket) -> bytes:
    """What every checkpoint of a job's trainers is bound to: the job, its spec, and the owner's grant."""
    spec: JobSpec = ticket.spec
    return bytes.fromhex(spec.job) + bytes.fromhex(spec.digest()) + name_of(ticket, spec)


def checkpoint_invalid() -> InputCorrupted:
    """The refusal of a checkpoint that does not open or parse; it quotes nothing of it."""
    return InputCorrupted("checkpoint-invalid", "the stored checkpoint is not one that we sealed")


def rolled_back() -> InputCorrupted:
    """The refusal of a checkpoint that is not the one that was stored last."""
    return InputCorrupted(codes.CHECKPOINT_ROLLED_BACK, "the host served an old checkpoint, or withheld it")
