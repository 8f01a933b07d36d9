"""The trainer that leads: it runs the builder, reports to the owner, and seals what the job made."""

import asyncio
from collections.abc import Sequence

from chiron.ps.client import Merged, Start
from chiron.ps.errors import TrialOver
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import Membership
from chiron.runtime.channels.shards import ShardLink
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.engine.supply import Engines
from chiron.runtime.errors import ChunkMalformed, ChunkRefused, EnclaveError, InputCorrupted, TooLarge
from chiron.runtime.pacing import making_ready_s, slot_s
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
from chiron.wire.jobs import GIVEN_UP, LATE, JobState
from chiron.wire.labels import LEADER_CHECKPOINT, MODEL, Label
from chiron.wire.launch import LaunchSpec
from chiron.wire.reports import Outcome, TrainingReport

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
        measuring: Engines,
    ) -> None:
        super().__init__(launch, membership, shards, gateway, platform, engines, measuring)
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
        self._unsaid: TrainingReport | None = None
        """Of the exchange that is to be reported next: what the engine has no hand in."""
        self._onnx = b""

    async def run(self) -> None:
        """Lead every trial, from where a crashed predecessor stood, and store what the job made.

        Raises:
            InputCorrupted: the host served something other than the owner and the operator uploaded, or than
                we stored.
        """
        await self._load()
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
            dataset = EncryptedDataset(self._spec.dataset, self._dataset_key, self._fetch)
            self._builder = await Builder.prepare(self._ticket, self._gateway, dataset, sandbox)
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

    async def _run_trial(self, trial: int) -> None:
        try:
            await super()._run_trial(trial)
        except TrialOver as error:
            # Nobody opens a trial but us.
            raise rolled_back() from error

    async def _open_trial(self, trial: int, *, resumed: bool) -> Start:
        if not resumed:
            await self._propose(trial)
        return await super()._open_trial(trial, resumed=resumed)

    async def _plan_of(self, trial: int, start: Start) -> Plan | None:
        return self._plan

    async def _propose(self, trial: int) -> None:
        """Let the builder plan this trial and begin the run, in a slot; then publish it.

        Who comes in a crashed trainer's place proposes what that one did: the builder is not asked again.
        """
        self._slots.begin()
        if not await self._in_slot(self._begin_plan(trial), making_ready_s(self._spec)):
            self._plan = None
            self._begin_run(trial, "plan-late")
            self._selection.failed("plan-late", "the builder's slot was over before its plan was ready")
        if self._planned != trial:
            await self._trials.save(trial, self._selection, self._plan)
            self._planned = trial
        published = NO_PLAN
        if self._plan is not None and self._run.failure is None:
            published = self._plan.published
        await self._client.publish(trial, published, self._run.pushed()[0])

    async def _begin_plan(self, trial: int) -> None:
        if self._planned != trial:
            self._plan = await self._ask_builder(trial)
        if self._plan is not None:
            await self._run.begin(self._plan, self._builder.component if self._builder is not None else None)

    async def _ask_builder(self, trial: int) -> Plan | None:
        """The plan of a trial, if there is one. Where the builder has no better idea: the best so far."""
        if self._builder is None:
            return None
        try:
            plan = await self._builder.plan(trial, self._selection.history)
            if plan is None:
                return self._selection.best.plan if self._selection.best is not None else None
            await self._run.admit(plan, self._builder.component)
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

    def _after_exchange(self, number: int, merged: Merged) -> None:
        self._unsaid = TrainingReport(
            exchange=number,
            trial=self._run.trial,
            slot_s=None if self._rung is None else slot_s(self._spec, self._rung),
            late_slots=int(merged.sums[LATE]),
            given_up=int(merged.sums[GIVEN_UP]),
        )

    async def _say(self, number: int) -> None:
        await self._report()
        await super()._say(number)

    async def _report(self) -> TrainingReport | None:
        """Seal the last exchange's report to the owner, if it is due."""
        report, self._unsaid = self._unsaid, None
        if report is None:
            return None
        found = self._run.report
        if found.exchange == report.exchange:
            facts = ("slot_s", "late_slots", "given_up")
            report = found.model_copy(update={name: getattr(report, name) for name in facts})
        sealed = seal_report(report, job=self._spec.job, owner_public_key=self._ticket.owner_public_key)
        await self._gateway.put_object(objects.report(report.exchange).name, sealed)
        return report

    async def _end_trial(self, trial: int) -> bool:
        self._onnx, run = b"", self._run
        done = await super()._end_trial(trial)
        report = await self._report() or run.report
        failure = run.failure if done else "taking-up-late"
        self._selection.add(trial, self._plan, report, self._onnx if done else b"", failure)
        return done

    async def _finish(self, run: TrialRun, working: asyncio.Task[None] | None) -> None:
        await super()._finish(run, working)
        self._onnx = await run.export()

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
