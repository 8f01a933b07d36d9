"""A trainer's checkpoint in the operator's storage: what it needs to repeat its work since the last merge.

Before each exchange k it holds the state that the steps before k begin with. It is stored once these steps
are taken, before the change goes out. So whenever the trainer crashes, the server is

- at k: the steps are taken again, with the same outcome, and sent; or
- at k + 1: they are taken again, and the server answers the change, which it has, from its last merge.

Either way not a bit differs from a job without the crash. Every other k was rolled back by the host, and is
refused. All is of one size a job, whatever graph and recipe are, and whether there is a plan at all.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import InputCorrupted, SealingError
from chiron.runtime.pacing import MOST_LATE_SLOTS
from chiron.runtime.roles.grant import grant_name
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import codes
from chiron.wire.encoding import WireModel
from chiron.wire.objects import keeps_trainer_checkpoints, trainer_checkpoint


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
    """The learner's state; empty where the run is idle."""
    client: memoryview
    """The client's arrays, one after the other."""
    late: int
    """Further slots taken so far."""
    given_up: int
    """Exchanges given up so far."""


class _Head(WireModel):
    trial: int = Field(ge=0, le=63)
    exchange: int = Field(ge=0, le=100_000)
    failure: str | None = Field(max_length=64)
    late: int = Field(ge=0, le=MOST_LATE_SLOTS)
    given_up: int = Field(ge=0, le=100_000)


class TrainerCheckpoint:
    """Saves and loads the state of one trainer, if its job keeps it."""

    def __init__(
        self, ticket: Ticket, index: int, client: Kept, sealer: Sealer, gateway: GatewayClient
    ) -> None:
        stored = trainer_checkpoint(ticket.spec, index)
        context = checkpoint_context(ticket) + index.to_bytes(4, "little")
        self._record = SealedRecord(stored, _Head, sealer, context)
        self._client = client
        self._gateway = gateway
        self.kept = keeps_trainer_checkpoints(ticket.spec)
        """Whether there are any; public."""

    async def snapshot(
        self, exchange: int, trial: int, run: TrialRun | None, *, late: int, given_up: int
    ) -> bytearray:
        """The state as it is, before the steps that are due before `exchange`; secret.

        Without a run its engine is at work, and there is nothing of a learner in it.
        """
        state, failure = b"", None
        if run is not None:
            state = await run.state()
            # After the state: taking it may have failed.
            failure = run.failure
        head = _Head(trial=trial, exchange=exchange, failure=failure, late=late, given_up=given_up)
        return await asyncio.to_thread(self._record.encode, head, state, self._client_into)

    async def store(self, content: bytearray) -> None:
        """Seal and store a snapshot.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        await self._record.store(self._gateway, content)

    async def load(self) -> SavedTrainer | None:
        """The stored checkpoint; None where there is none, or the job keeps none.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this trainer that we sealed.
        """
        if not self.kept:
            return None
        try:
            found = await self._record.load(self._gateway)
        except SealingError:
            raise checkpoint_invalid() from None
        if found is None:
            return None
        head, (learner, client) = found
        return SavedTrainer(
            head.trial, head.exchange, head.failure, bytes(learner), client, head.late, head.given_up
        )

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

    def _client_into(self, room: memoryview) -> int:
        at = 0
        for array in self._client.kept.values():
            room[at : at + array.nbytes] = array.view(np.uint8).data
            at += array.nbytes
        return at


def checkpoint_context(ticket: Ticket) -> bytes:
    """The context that every checkpoint of a job's trainers is bound to: job, spec, and the owner's grant."""
    spec = ticket.spec
    return bytes.fromhex(spec.job) + bytes.fromhex(spec.digest()) + grant_name(ticket, spec.digest())


def checkpoint_invalid() -> InputCorrupted:
    """The refusal of a checkpoint that does not open or parse; it quotes nothing of it."""
    return InputCorrupted("checkpoint-invalid", "the stored checkpoint is not one that we sealed")


def rolled_back() -> InputCorrupted:
    """The refusal of a checkpoint that is not the one that was stored last."""
    return InputCorrupted(codes.CHECKPOINT_ROLLED_BACK, "the host served an old checkpoint, or withheld it")
