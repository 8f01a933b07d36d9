"""The results of the trials so far: the best model among them, and what builder and owner are told.

The leading trainer keeps it in a checkpoint, once a trial, after the builder has proposed its plan and before
the plan is published. One that is launched again takes up that trial with the same proposal, history and best
candidate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import SealingError
from chiron.runtime.roles.plan import Plan
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.roles.trainer_checkpoint import checkpoint_context, checkpoint_invalid
from chiron.runtime.sealing.sealer import Sealer
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wire.contract import Trial, TrialOutcome
from chiron.wire.encoding import WireModel
from chiron.wire.objects import leader_checkpoint
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport

_NO_TRIAL = Outcome(status=OutcomeStatus.TRAINING_FAILED, code="no-trial")


@dataclass(frozen=True)
class Candidate:
    """A trial's product."""

    plan: Plan
    report: TrainingReport
    onnx: bytes


@dataclass
class Selection:
    """Compares the trials. What it holds is kept in the leading trainer's checkpoint."""

    best: Candidate | None = None
    history: list[Trial] = field(default_factory=list)
    """The trials as the builder is told of them when it plans the next."""
    why_none: Outcome = _NO_TRIAL
    """The outcome for the owner where no trial has a product."""

    def add(
        self, trial: int, plan: Plan | None, report: TrainingReport, onnx: bytes, failure: str | None
    ) -> None:
        """Take in how a trial went. `onnx` is empty where it has no model; `failure` then says why."""
        if onnx and plan is not None:
            candidate = Candidate(plan, report, onnx)
            if self.best is None or _score(report) > _score(self.best.report):
                self.best = candidate
        elif report.diverged:
            self.why_none = Outcome(status=OutcomeStatus.DIVERGED, code="diverged", metrics=report)
        elif plan is not None:
            self.failed(failure or "training-failed")
        self.history.append(_as_trial(trial, plan, report, trained=bool(onnx)))

    def failed(self, code: str, detail: str = "") -> None:
        """Say that nothing could be trained."""
        self.why_none = Outcome(status=OutcomeStatus.TRAINING_FAILED, code=code, detail=detail)

    def refused(self, error: SandboxError) -> None:
        """Say that the builder failed, or that its plan was not admitted; not what the plan holds."""
        self.why_none = Outcome(status=OutcomeStatus.BUILDER_REFUSED, code=str(error.code), detail=str(error))

    @property
    def outcome(self) -> Outcome:
        """The outcome for the owner."""
        if self.best is None:
            return self.why_none
        return Outcome(status=OutcomeStatus.TRAINED, metrics=self.best.report)


def _score(report: TrainingReport) -> float:
    """Larger is better: accuracy on validation rows, else the smaller loss."""
    losses: Sequence[float | None] = (report.validation_loss, report.train_loss)
    if report.validation_accuracy is not None:
        return report.validation_accuracy
    return next((-loss for loss in losses if loss is not None), -math.inf)


def _as_trial(number: int, plan: Plan | None, report: TrainingReport, *, trained: bool) -> Trial:
    if trained:
        outcome = TrialOutcome.TRAINED
    else:
        outcome = TrialOutcome.DIVERGED if report.diverged else TrialOutcome.REFUSED
    return Trial(
        number=number,
        outcome=outcome,
        validation_loss=report.validation_loss if report.validation_loss is not None else math.nan,
        validation_score=_score(report) if trained else math.nan,
        recipe=plan.recipe.model_dump_json() if plan is not None else "",
    )


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
    """The results of the trials before, without the best candidate."""
    best_report: TrainingReport | None
    """None where there is no best candidate."""
    best_plan: bytes
    """The best candidate's plan, as it was published."""
    best_onnx: bytes
    """The best candidate's model."""


class LeaderCheckpoint:
    """Saves and loads what a job's leading trainer knows."""

    def __init__(self, ticket: Ticket, sealer: Sealer, gateway: GatewayClient) -> None:
        stored = leader_checkpoint(ticket.spec)
        self._record = SealedRecord(stored, _Head, sealer, checkpoint_context(ticket))
        self._gateway = gateway

    async def save(self, trial: int, selection: Selection, plan: Plan | None) -> None:
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
