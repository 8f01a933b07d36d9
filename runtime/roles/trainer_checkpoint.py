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
from chiron.runtime.channels.gateway import GatewayClient
from chiron.runtime.errors import InputCorrupted, SealingError
from chiron.runtime.roles.attempt import Attempt
from chiron.runtime.roles.grant import name_of
from chiron.runtime.sealing.sealer import OVERHEAD_BYTES, Sealer
from chiron.wire.encoding import WireModel
from chiron.wire.jobs import JobSpec

LEARNER_VECTORS = 5
"""Parameters, two moments of the optimizer, moving average, best so far: the most that a recipe needs."""
HEAD_BYTES = 4096
"""Room for what is said in words; as much again for counters and the tensors' header."""
MAX_BYTES = 2**30
"""Jobs whose checkpoints would be larger keep none: every exchange would carry it through the gateway."""
_LENGTH = struct.Struct("<I")


def trainer_checkpoint_object(index: int) -> str:
    """Name of trainer `index`'s checkpoint."""
    return f"checkpoint-trainer-{index}"


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
    """`Learner.state()`; empty where the attempt is idle."""
    client: memoryview
    """The client's arrays, one after the other."""


class _Head(WireModel):
    trial: int = Field(ge=0, le=63)
    exchange: int = Field(ge=0, le=100_000)
    failure: str | None = Field(max_length=64)
    learner_bytes: int = Field(ge=0, le=MAX_BYTES)


class TrainerCheckpoint:
    """Saves and loads the state of one trainer, if its job keeps it."""

    def __init__(
        self, ticket: Ticket, index: int, client: Kept, sealer: Sealer, gateway: GatewayClient
    ) -> None:
        spec = ticket.spec
        self._name = trainer_checkpoint_object(index)
        self._context = checkpoint_context(ticket) + _LENGTH.pack(index)
        self._client = client
        self._sealer = sealer
        self._gateway = gateway
        self._client_at = 2 * HEAD_BYTES + LEARNER_VECTORS * 4 * spec.exchange.parameters
        self._size = self._client_at + sum(array.nbytes for array in client.kept.values())
        self.kept = spec.exchange.trainer_checkpoints and self._size <= MAX_BYTES
        """Whether there are any; public."""

    async def snapshot(self, trial: int, exchange: int, attempt: Attempt) -> bytearray:
        """The state as it is, before the steps that are due before `exchange`; secret."""
        return await asyncio.to_thread(self._snapshot, trial, exchange, attempt)

    async def store(self, content: bytearray) -> None:
        """Seal and store a snapshot.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        sealed = await asyncio.to_thread(self._sealer.seal, content, size=self._size, context=self._context)
        await self._gateway.put_object(self._name, sealed)

    async def load(self) -> SavedTrainer | None:
        """The stored checkpoint; None where there is none, or the job keeps none.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this trainer that we sealed.
        """
        if not self.kept:
            return None
        sealed = await self._gateway.find_object(self._name, self._size + OVERHEAD_BYTES)
        if sealed is None:
            return None
        try:
            content = await asyncio.to_thread(self._sealer.open, sealed, context=self._context)
            (length,) = _LENGTH.unpack_from(content)
            head = _Head.model_validate_json(content[_LENGTH.size : _LENGTH.size + length])
        except (SealingError, ValidationError, struct.error):
            raise checkpoint_invalid() from None
        learner = content[HEAD_BYTES : HEAD_BYTES + head.learner_bytes]
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

    def _snapshot(self, trial: int, exchange: int, attempt: Attempt) -> bytearray:
        content = bytearray(self._size)
        with memoryview(content)[HEAD_BYTES : self._client_at] as room:
            learner_bytes = attempt.state_into(room)
        head = _Head(
            trial=trial, exchange=exchange, failure=attempt.failure, learner_bytes=learner_bytes
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
    return InputCorrupted("checkpoint-rolled-back", "the host served an old checkpoint, or withheld it")
