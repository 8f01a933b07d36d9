"""What the trials so far have shown: the best model among them, and what builder and owner are told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from chiron.runtime.roles.plan import AdmittedPlan
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wire.contract import Trial, TrialOutcome
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport

_NO_TRIAL = Outcome(status=OutcomeStatus.TRAINING_FAILED, code="no-trial")


@dataclass(frozen=True)
class Candidate:
    """A trial's product."""

    plan: AdmittedPlan
    report: TrainingReport
    onnx: bytes


@dataclass
class Selection:
    """Compares the trials. What it holds is kept in the leading trainer's checkpoint."""

    best: Candidate | None = None
    history: list[Trial] = field(default_factory=list)
    """What the builder is told when it plans the next trial."""
    why_none: Outcome = _NO_TRIAL
    """What the owner is told where no trial has a product."""

    def add(
        self, trial: int, plan: AdmittedPlan | None, report: TrainingReport, onnx: bytes, failure: str | None
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
        """Say that the builder failed, or that its plan was not admitted."""
        detail = f"{error}; {error.detail}" if error.detail else str(error)
        self.why_none = Outcome(status=OutcomeStatus.BUILDER_REFUSED, code=str(error.code), detail=detail)

    @property
    def outcome(self) -> Outcome:
        """What the owner is told at the end."""
        if self.best is None:
            return self.why_none
        return Outcome(
            status=OutcomeStatus.TRAINED,
            metrics=self.best.report,
            parameters=self.best.plan.graph.elements,
        )


def _score(report: TrainingReport) -> float:
    """Larger is better: accuracy on validation rows, else the smaller loss."""
    losses: Sequence[float | None] = (report.validation_loss, report.train_loss)
    if report.validation_accuracy is not None:
        return report.validation_accuracy
    return next((-loss for loss in losses if loss is not None), -math.inf)


def _as_trial(number: int, plan: AdmittedPlan | None, report: TrainingReport, *, trained: bool) -> Trial:
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
