"""The leading trainer's checkpoint: what it knows besides its training, as each trial begins.

It is stored once a trial, after the builder has proposed its plan and before the plan is published. One that
is launched again takes up that trial with the same proposal, history and best candidate.
"""

from typing import NamedTuple

from pydantic import Field

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import SealingError
from chiron.runtime.roles.plan import AdmittedPlan
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.roles.selection import Selection
from chiron.runtime.roles.trainer_checkpoint import checkpoint_context, checkpoint_invalid
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.contract import Trial
from chiron.wire.encoding import WireModel
from chiron.wire.objects import lead_checkpoint
from chiron.wire.reports import Outcome, TrainingReport


class _Head(WireModel):
    trial: int = Field(ge=0, le=63)
    history: tuple[Trial, ...] = Field(max_length=64)
    why_none: Outcome
    best_report: TrainingReport | None


class SavedLeader(NamedTuple):
    """A checkpoint's content."""

    trial: int
    """The trial that is under way."""
    proposed: bytes
    """Its plan, as it is published; empty where there is none."""
    selection: Selection
    """Of the trials before, without the best candidate."""
    best_report: TrainingReport | None
    """None where there is no best candidate."""
    best_plan: bytes
    """The best candidate's plan, as it was published."""
    best_onnx: bytes
    """The best candidate's model."""


class LeaderCheckpoint:
    """Saves and loads what a job's leading trainer knows."""

    def __init__(self, ticket: Ticket, sealer: Sealer, gateway: GatewayClient) -> None:
        stored = lead_checkpoint(ticket.spec)
        self._record = SealedRecord(stored, _Head, sealer, checkpoint_context(ticket))
        self._gateway = gateway

    async def save(self, trial: int, selection: Selection, plan: AdmittedPlan | None) -> None:
        """Seal and store the state as it is, with what is proposed for `trial`.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        best = selection.best
        head = _Head(
            trial=trial,
            history=tuple(selection.history),
            why_none=selection.why_none,
            best_report=best.report if best else None,
        )
        content = self._record.encode(
            head,
            plan.published if plan else b"",
            best.plan.published if best else b"",
            # Its room is larger than a model's: one that is too large stays too large.
            best.onnx[: self._record.stored.part_bytes[2]] if best else b"",
        )
        await self._record.store(self._gateway, content)

    async def load(self) -> SavedLeader | None:
        """The stored state; None where there is none.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this job that we sealed.
        """
        try:
            found = await self._record.load(self._gateway)
        except SealingError:
            raise checkpoint_invalid() from None
        if found is None:
            return None
        head, (proposed, best_plan, best_onnx) = found
        selection = Selection(history=list(head.history), why_none=head.why_none)
        return SavedLeader(
            head.trial, bytes(proposed), selection, head.best_report, bytes(best_plan), bytes(best_onnx)
        )
