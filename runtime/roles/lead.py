"""What the leading trainer does besides training: the builder, the owner's reports, the sealed product."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import Membership
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.errors import ChunkMalformed, ChunkRefused, InputCorrupted, TooLarge
from chiron.runtime.reports import seal_outcome, seal_report
from chiron.runtime.roles.attempt import Attempt
from chiron.runtime.roles.building import Building, NoBetterIdea
from chiron.runtime.roles.lead_checkpoint import LeadCheckpoint
from chiron.runtime.roles.plan import Plan, encode_no_plan
from chiron.runtime.roles.sealed_model import ModelHeader, seal_model
from chiron.runtime.sealing.sealer import Sealer
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.sandbox import Sandbox
from chiron.wire import objects
from chiron.wire.contract import Trial, TrialOutcome
from chiron.wire.jobs import JobState
from chiron.wire.labels import LEAD_CHECKPOINT, MODEL
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport

NO_MODEL = b""


@dataclass(frozen=True)
class _Candidate:
    """A trial's product."""

    plan: Plan
    published: bytes
    report: TrainingReport
    onnx: bytes


class Lead:
    """The leading trainer's share of one job."""

    def __init__(
        self, membership: Membership, gateway: GatewayClient, platform: Platform, limits: SandboxLimits
    ) -> None:
        self._membership = membership
        self._ticket = membership.ticket
        self._spec = membership.ticket.spec
        self._gateway = gateway
        self._platform = platform
        self._limits = limits
        self._checkpoint = LeadCheckpoint(self._ticket, Sealer(platform, LEAD_CHECKPOINT), gateway)
        self._building: Building | None = None
        self.trial = 0
        """The trial that is under way, or the first."""
        self._kept = False
        """Whether the proposal for this trial is in the checkpoint."""
        self._proposed: tuple[Plan, bytes] | None = None
        self._best: _Candidate | None = None
        self._history: list[Trial] = []
        self._why_none = Outcome(status=OutcomeStatus.TRAINING_FAILED, code="no-trial")

    async def prepare(self, dataset: EncryptedDataset) -> None:
        """Get the builder ready, and take up what a crashed predecessor has left.

        Raises:
            InputCorrupted: the host served something other than the owner and the operator uploaded, or than
                we stored.
        """
        try:
            sandbox = Sandbox(self._limits)
            self._building = await Building.prepare(self._ticket, self._gateway, dataset, sandbox)
        except ChunkRefused as error:
            raise InputCorrupted(error.code, "the host served another chunk than the owner's") from error
        except ChunkMalformed as error:
            # The owner's own mistake, and about the data: it travels sealed.
            self._why_none = Outcome(status=OutcomeStatus.TRAINING_FAILED, code=error.code, detail=str(error))
        await self._take_up()

    async def _take_up(self) -> None:
        kept = await self._checkpoint.load()
        if kept is None:
            return
        state, (proposed, published, onnx) = kept
        self.trial, self._kept = state.trial, True
        self._history, self._why_none = list(state.history), state.why_none
        if self._building is None:
            return
        if proposed:
            self._proposed = await self._building.admit(state.trial, proposed), proposed
        if state.best_report is not None:
            plan = await self._building.admit(state.trial, published)
            self._best = _Candidate(plan, published, state.best_report, onnx)

    def remembers(self, trial: int) -> bool:
        """Whether a checkpoint was found, of this trial or a later one."""
        return self._kept and self.trial >= trial

    @property
    def plan(self) -> Plan | None:
        """What is proposed for the trial under way."""
        return self._proposed[0] if self._proposed else None

    async def propose(self, attempt: Attempt, trial: int) -> bytes:
        """Let the builder plan this trial and begin the attempt; what is to be published of it.

        Who comes in a crashed trainer's place proposes what that one did: the builder is not asked again.
        """
        if not (self._kept and self.trial == trial):
            self._proposed = await self._ask_builder(trial)
            await self._keep(trial)
        if self._proposed is None:
            return encode_no_plan()
        plan, published = self._proposed
        await attempt.begin(plan)
        return published if attempt.failure is None else encode_no_plan()

    async def _keep(self, trial: int) -> None:
        self.trial, self._kept = trial, True
        best = self._best
        parts = (
            self._proposed[1] if self._proposed else b"",
            best.published if best else b"",
            best.onnx if best else b"",
        )
        report = best.report if best else None
        await self._checkpoint.save(trial, self._history, self._why_none, report, parts)

    async def _ask_builder(self, trial: int) -> tuple[Plan, bytes] | None:
        if self._building is None:
            return None
        try:
            return await self._building.plan(trial, self._history)
        except NoBetterIdea:
            return (self._best.plan, self._best.published) if self._best else None
        except SandboxError as error:
            detail = f"{error}; {error.detail}" if error.detail else str(error)
            self._why_none = Outcome(
                status=OutcomeStatus.BUILDER_REFUSED, code=str(error.code), detail=detail
            )
            return None

    async def report(self, attempt: Attempt) -> None:
        """Seal the latest exchange's report to the owner."""
        report = attempt.report
        sealed = seal_report(report, job=self._spec.job, owner_public_key=self._ticket.owner_public_key)
        await self._gateway.put_object(objects.report(report.exchange).name, sealed)

    async def weigh(self, attempt: Attempt, trial: int) -> None:
        """Remember how the trial went, and its model if it is the best so far."""
        onnx = await asyncio.to_thread(attempt.export)
        report = attempt.report
        if onnx and self._proposed:
            candidate = _Candidate(*self._proposed, report, onnx)
            if self._best is None or _score(report) > _score(self._best.report):
                self._best = candidate
        elif report.diverged:
            self._why_none = Outcome(status=OutcomeStatus.DIVERGED, code="diverged", metrics=report)
        elif self._proposed:
            self._why_none = Outcome(
                status=OutcomeStatus.TRAINING_FAILED, code=attempt.failure or "training-failed"
            )
        self._history.append(_as_trial(trial, report, self._proposed, trained=bool(onnx)))

    async def conclude(self) -> None:
        """Store the sealed model and the sealed outcome, and let the parameter server end the job."""
        await self._advance(JobState.SEALING)
        sealed, outcome = await asyncio.to_thread(self._seal)
        await self._gateway.put_object(objects.model(self._spec).name, sealed)
        sealed_outcome = seal_outcome(
            outcome, job=self._spec.job, owner_public_key=self._ticket.owner_public_key
        )
        await self._gateway.put_object(objects.outcome().name, sealed_outcome)
        await self._advance(JobState.SUCCEEDED)

    def _seal(self) -> tuple[bytes, Outcome]:
        sealer = Sealer(self._platform, MODEL)
        if self._best is not None:
            trained = Outcome(
                status=OutcomeStatus.TRAINED,
                metrics=self._best.report,
                parameters=self._best.plan.graph.elements,
            )
            try:
                return seal_model(self._spec, self._header(usable=True), self._best.onnx, sealer), trained
            except TooLarge:
                self._why_none = Outcome(
                    status=OutcomeStatus.TRAINING_FAILED,
                    code="model-exceeds-envelope",
                    detail="the trained model is larger than the builder's envelope says",
                )
        return seal_model(self._spec, self._header(usable=False), NO_MODEL, sealer), self._why_none

    def _header(self, *, usable: bool) -> ModelHeader:
        return ModelHeader(
            job=self._spec.job,
            spec_digest=self._spec.digest(),
            prediction=self._ticket.prediction,
            owner_signing_key=self._ticket.owner_signing_key,
            usable=usable,
        )

    async def _advance(self, state: JobState) -> None:
        await self._membership.advance(state)


def _score(report: TrainingReport) -> float:
    """Larger is better: accuracy on validation rows, else the smaller loss."""
    losses: Sequence[float | None] = (report.validation_loss, report.train_loss)
    if report.validation_accuracy is not None:
        return report.validation_accuracy
    return next((-loss for loss in losses if loss is not None), -math.inf)


def _as_trial(
    number: int, report: TrainingReport, proposed: tuple[Plan, bytes] | None, *, trained: bool
) -> Trial:
    if trained:
        outcome = TrialOutcome.TRAINED
    else:
        outcome = TrialOutcome.DIVERGED if report.diverged else TrialOutcome.REFUSED
    loss = report.validation_loss if report.validation_loss is not None else math.nan
    return Trial(
        number=number,
        outcome=outcome,
        validation_loss=loss,
        validation_score=_score(report) if trained else math.nan,
        recipe=proposed[0].recipe.model_dump_json() if proposed else "",
    )
