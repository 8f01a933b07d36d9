"""The trainer that leads: it runs the builder, reports to the owner, and seals what the job made."""

import asyncio
from collections.abc import Sequence

from chiron.ps.client import Start
from chiron.ps.errors import TrialOver
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import Membership
from chiron.runtime.channels.shards import ShardLink
from chiron.runtime.engine.supply import Engines
from chiron.runtime.errors import ChunkMalformed, ChunkRefused, EnclaveError, InputCorrupted, TooLarge
from chiron.runtime.reports import seal_outcome, seal_report
from chiron.runtime.roles.builder import Builder
from chiron.runtime.roles.plan import NO_PLAN, Plan, decode_plan
from chiron.runtime.roles.sealed_model import ModelHeader, seal_model
from chiron.runtime.roles.selection import Candidate, LeaderCheckpoint, Selection
from chiron.runtime.roles.trainer import Trainer, take_part
from chiron.runtime.roles.trainer_checkpoint import rolled_back
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing.sealer import Sealer
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.sandbox import Sandbox
from chiron.wire import objects
from chiron.wire.jobs import JobState
from chiron.wire.labels import LEADER_CHECKPOINT, MODEL, Label
from chiron.wire.launch import LaunchSpec
from chiron.wire.reports import Outcome

NO_MODEL = b""


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Lead the training of one job from enrolment to its end."""
    await take_part(Leader, launch, platform)


class Leader(Trainer):
    """The leading trainer's share of one job."""

    def __init__(
        self,
        launch: LaunchSpec,
        membership: Membership,
        shards: Sequence[ShardLink],
        gateway: GatewayClient,
        platform: Platform,
        engines: Engines,
    ) -> None:
        super().__init__(launch, membership, shards, gateway, platform, engines)
        self._membership = membership
        self._ticket = membership.ticket
        self._gateway = gateway
        self._platform = platform
        # Occlum gives an enclave few threads; the development TEE has all of the machine's.
        self._limits = SandboxLimits(parallel_compilation=launch.platform.kind == "software")
        self._trials = LeaderCheckpoint(self._ticket, self._sealer(LEADER_CHECKPOINT), gateway)
        self._builder: Builder | None = None
        self._selection = Selection()
        self._plan: Plan | None = None
        """The plan that is proposed for the trial under way."""
        self._planned = -1
        """The trial whose proposal is in the checkpoint; -1: there is no checkpoint."""

    async def run(self) -> None:
        """Lead every trial, from where a crashed predecessor stood, and store what the job made.

        Raises:
            InputCorrupted: the host served something other than the owner and the operator uploaded, or than
                we stored.
        """
        self._saved = await self._checkpoint.load()
        await self._prepare()
        await self._take_up_selection()
        if self._saved is not None and self._planned < self._saved.trial:
            raise rolled_back()
        await self._run_trials(max(self._planned, 0))
        await self._conclude()

    async def _prepare(self) -> None:
        """Get the builder ready."""
        try:
            sandbox = Sandbox(self._limits)
            self._builder = await Builder.prepare(self._ticket, self._gateway, self._dataset, sandbox)
        except ChunkRefused as error:
            raise InputCorrupted(error.code, "the host served another chunk than the owner's") from error
        except ChunkMalformed as error:
            # The owner's own mistake, and about the data: it travels sealed.
            self._selection.failed(error.code, str(error))

    async def _take_up_selection(self) -> None:
        """Go on from what a crashed predecessor has left."""
        kept = await self._trials.load()
        if kept is None:
            return
        self._planned, self._selection = kept.trial, kept.selection
        if self._builder is None:
            return
        if kept.proposed:
            self._plan = decode_plan(self._spec, kept.trial, kept.proposed)
        if kept.best_report is not None:
            best = decode_plan(self._spec, kept.trial, kept.best_plan)
            if best is not None:
                self._selection.best = Candidate(best, kept.best_report, kept.best_onnx)

    async def _run_trial(self, trial: int) -> TrialRun:
        try:
            run = await super()._run_trial(trial)
        except TrialOver as error:
            # Nobody opens a trial but us.
            raise rolled_back() from error
        onnx = await run.export()
        self._selection.add(trial, self._plan, run.report, onnx, run.failure)
        return run

    async def _open_trial(self, run: TrialRun, *, resumed: bool) -> tuple[Start, Plan | None]:
        if not resumed:
            published = await self._propose(run)
            await self._client.publish(run.trial, published, run.pushed()[0])
        return await self._client.start(run.trial), self._plan

    async def _propose(self, run: TrialRun) -> bytes:
        """Let the builder plan this trial and begin the run; what is to be published of it.

        Who comes in a crashed trainer's place proposes what that one did: the builder is not asked again.
        """
        if self._planned != run.trial:
            self._plan = await self._ask_builder(run)
            await self._trials.save(run.trial, self._selection, self._plan)
            self._planned = run.trial
        if self._plan is None:
            return NO_PLAN
        await run.begin(self._plan, self._builder.component if self._builder is not None else None)
        return self._plan.published if run.failure is None else NO_PLAN

    async def _ask_builder(self, run: TrialRun) -> Plan | None:
        """The plan of a trial, if there is one. Where the builder has no better idea: the best so far."""
        if self._builder is None:
            return None
        try:
            plan = await self._builder.plan(run.trial, self._selection.history)
            if plan is None:
                return self._selection.best.plan if self._selection.best is not None else None
            await run.admit(plan, self._builder.component)
        except SandboxError as error:
            self._selection.refused(error)
            return None
        except TrainingFailed as error:
            self._selection.failed(error.code)
            return None
        except EnclaveError:
            raise
        except Exception:
            # Whatever a builder's answer makes anything raise is no end of the schedule.
            self._selection.failed(Reason.ENGINE_FAILED)
            return None
        return plan

    async def _after_exchange(self, run: TrialRun) -> None:
        """Seal the exchange's report to the owner."""
        report = run.report
        sealed = seal_report(report, job=self._spec.job, owner_public_key=self._ticket.owner_public_key)
        await self._gateway.put_object(objects.report(report.exchange).name, sealed)

    async def _conclude(self) -> None:
        """Store the sealed model and the sealed outcome, and let the parameter server end the job."""
        await self._membership.advance(JobState.SEALING)
        sealed, outcome = await asyncio.to_thread(self._seal)
        await self._gateway.put_object(objects.model(self._spec).name, sealed)
        sealed_outcome = seal_outcome(
            outcome, job=self._spec.job, owner_public_key=self._ticket.owner_public_key
        )
        await self._gateway.put_object(objects.outcome().name, sealed_outcome)
        await self._membership.advance(JobState.SUCCEEDED)

    def _seal(self) -> tuple[bytes, Outcome]:
        sealer, best = self._sealer(MODEL), self._selection.best
        if best is not None:
            try:
                model = seal_model(self._spec, self._header(usable=True), best.onnx, sealer)
            except TooLarge:
                self._selection.best = None
                detail = "the trained model is larger than the builder's envelope says"
                self._selection.failed("model-exceeds-envelope", detail)
            else:
                return model, self._selection.outcome
        return seal_model(self._spec, self._header(usable=False), NO_MODEL, sealer), self._selection.outcome

    def _sealer(self, label: Label) -> Sealer:
        return Sealer(self._platform, label, self._ticket.share, machines=self._ticket.machines)

    def _header(self, *, usable: bool) -> ModelHeader:
        return ModelHeader(
            job=self._spec.job,
            spec_digest=self._spec.digest(),
            prediction=self._ticket.prediction,
            owner_signing_key=self._ticket.owner_signing_key,
            usable=usable,
        )
