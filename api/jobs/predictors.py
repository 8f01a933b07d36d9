"""Predictors of jobs that succeeded: started on demand, started again, and moved to newer enclave code."""

import asyncio
from collections.abc import Sequence

from chiron.api.errors import (
    ApiError,
    EnclaveNotRunning,
    ImageUnknown,
    JobNotSucceeded,
    Overloaded,
    ShuttingDown,
    UpgradeRunning,
)
from chiron.api.jobs.fleet import Fleet, LaunchedEnclave
from chiron.api.jobs.relay import GIVER, Relay
from chiron.api.jobs.supervisor import Supervisor
from chiron.api.problems import log_unexpected
from chiron.api.settings import Settings
from chiron.wire.attestation import Role
from chiron.wire.grants import UpgradeMail
from chiron.wire.jobs import Job, JobState
from chiron.wire.public_api import ImageInfo, PredictorState, PredictorStatus, UpgradeDemand


class Predictors:
    """The predictors of all jobs, at most one a job."""

    def __init__(
        self, settings: Settings, fleet: Fleet, supervisor: Supervisor, images: Sequence[ImageInfo]
    ) -> None:
        self._images = images
        self._settings = settings
        self._fleet = fleet
        self._supervisor = supervisor
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def state(self, job: str) -> PredictorState:
        """Where the job's predictor is."""
        enclave = self._fleet.find(job, Role.PREDICTOR)
        if enclave is None:
            return PredictorState.STOPPED
        return PredictorState.READY if enclave.ready.done() else PredictorState.STARTING

    def status(self, job: str) -> PredictorStatus:
        """Where the job's predictor is, and how it is reached directly."""
        enclave, state = self._fleet.find(job, Role.PREDICTOR), self.state(job)
        if enclave is None or enclave.handle is None or state is not PredictorState.READY:
            return PredictorStatus(state=state)
        return PredictorStatus(state=state, address=enclave.handle.door)

    def start(
        self, tenant: str, job: Job, *, measurement: str | None = None, taking: bool = False
    ) -> PredictorState:
        """Begin to launch the job's predictor unless there is one; messages may be sent to it at once.

        With `measurement`: from that image and not the current one. With `taking`: without a model, to take
        over one of older code.

        Raises:
            ImageUnknown: this gateway has no image of that measurement.
            JobNotSucceeded: there is no model to open.
            Overloaded: as many predictors run as may.
            ShuttingDown: nothing new is begun.
        """
        name = job.spec.job
        self.require_image(measurement)
        if job.state is not JobState.SUCCEEDED:
            raise JobNotSucceeded("a predictor needs a job that succeeded")
        if self._closing:
            raise ShuttingDown("the gateway is stopping")
        if name not in self._tasks:
            if len(self._tasks) >= self._settings.limits.predictors:
                raise Overloaded("as many predictors are running as this gateway allows")
            enclave, token = self._fleet.register(tenant, job.spec, Role.PREDICTOR)
            enclave.measurement, enclave.taking = measurement, taking
            self._tasks[name] = asyncio.create_task(self._run(enclave, token))
        return self.state(name)

    async def ensure(self, tenant: str, job: Job, measurement: str | None = None) -> PredictorState:
        """Start the job's predictor from this image; one that runs from another image is stopped first.

        Raises:
            ImageUnknown, JobNotSucceeded, Overloaded, ShuttingDown: as `start`.
        """
        self.require_image(measurement)
        running = self._fleet.find(job.spec.job, Role.PREDICTOR)
        if (
            running is not None
            and not running.taking
            and self._of(running.measurement) != self._of(measurement)
        ):
            await self.stop(job.spec.job)
        return self.start(tenant, job, measurement=measurement)

    def _of(self, measurement: str | None) -> str:
        return measurement or self._images[0].measurement

    def require_image(self, measurement: str | None) -> None:
        """
        Raises:
            ImageUnknown: this gateway has no image of that measurement.
        """
        if measurement is not None and measurement not in {image.measurement for image in self._images}:
            raise ImageUnknown("this gateway has no enclave image of that measurement")

    def resume(self, jobs: Sequence[tuple[str, Job]]) -> None:
        """Launch the predictors again that ran when the gateway ended, each job's with its tenant."""
        for tenant, job in jobs:
            try:
                self.start(tenant, job)
            except ApiError as error:
                log_unexpected(error, job=job.spec.job)

    async def stop(self, job: str) -> None:
        """End the job's predictor.

        Raises:
            EnclaveNotRunning: there is none.
        """
        task = self._tasks.get(job)
        if task is None:
            raise EnclaveNotRunning("the job has no predictor; start one first")
        task.cancel()
        await asyncio.wait({task})

    async def close(self) -> None:
        """End every predictor."""
        self._closing = True
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, enclave: LaunchedEnclave, token: str) -> None:
        job = enclave.spec.job
        try:
            # The job's other enclaves must be gone: freeing what they held would take this one along.
            await self._supervisor.settled(job)
            await self._fleet.start(enclave, token)
            await enclave.gone.wait()
        except Exception as error:
            log_unexpected(error, job=job, enclave=enclave.name)
        finally:
            await self._fleet.dismiss(job, frozenset({Role.PREDICTOR}))
            del self._tasks[job]


class Upgrades:
    """Moves models to newer enclave code, each job's once at a time."""

    def __init__(self, fleet: Fleet, predictors: Predictors, relay: Relay) -> None:
        self._fleet = fleet
        self._predictors = predictors
        self._relay = relay
        self._running: set[str] = set()

    async def begin(self, tenant: str, job: Job, giver: str) -> PredictorState:
        """End the job's predictor; launch one of the giver's measurement, and one that waits for the model.

        Both end with the job's predictor, if nothing is ordered.

        Raises:
            ImageUnknown: there is no image of the giver's measurement.
            UpgradeRunning: a model is on its way already.
            JobNotSucceeded, Overloaded, ShuttingDown: as `Predictors.start`.
        """
        name = job.spec.job
        self._predictors.require_image(giver)
        if name in self._running:
            raise UpgradeRunning("the job's model is on its way already")
        if self._predictors.state(name) is not PredictorState.STOPPED:
            await self._predictors.stop(name)
        state = self._predictors.start(tenant, job, taking=True)
        enclave, token = self._fleet.register(tenant, job.spec, Role.PREDICTOR, GIVER)
        enclave.measurement = giver
        await self._fleet.start(enclave, token)
        return state

    async def carry(self, job: Job, demand: UpgradeDemand) -> None:
        """Carry the model from the enclave that gives it to the one that waits.

        Raises:
            EnclaveNotRunning: one of them does not run.
            UpgradeRunning: a model is on its way already.
            EnclaveRefused: one of the two did, with its own code; and as `Relay.evidence`.
        """
        name = job.spec.job
        taker = self._fleet.find(name, Role.PREDICTOR)
        giver = self._fleet.find(name, Role.PREDICTOR, GIVER)
        if taker is None or not taker.taking or giver is None:
            raise EnclaveNotRunning("no enclave waits for the job's model: begin the upgrade first")
        if name in self._running:
            raise UpgradeRunning("the job's model is on its way already")
        self._running.add(name)
        try:
            evidence = await self._relay.give(giver, UpgradeMail(order=demand.order, peer=demand.taker))
            await self._relay.take(taker, UpgradeMail(order=demand.order, peer=evidence))
        finally:
            self._running.discard(name)
            await self._fleet.stop(giver)
        taker.taking = False
