"""Predictors of jobs that succeeded: started on demand, ended when idle, and moved to newer enclave code."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass

from chiron.api.errors import (
    ApiError,
    EnclaveNotRunning,
    EnclaveRefused,
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
from chiron.wire.enclave_api import EvidenceRequest
from chiron.wire.grants import UpgradeMail
from chiron.wire.jobs import Job, JobSpec, JobState
from chiron.wire.public_api import ImageInfo, PredictorState, PredictorStatus, UpgradeDemand

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Running:
    enclave: LaunchedEnclave
    ending: asyncio.Event
    """Set once it is to end. Its task is not cancelled: however often it is told, it ends in order."""
    task: asyncio.Task[None]


class Predictors:
    """The predictors of all jobs, at most one a job."""

    def __init__(
        self, settings: Settings, fleet: Fleet, supervisor: Supervisor, images: Sequence[ImageInfo]
    ) -> None:
        self._images = images
        self._settings = settings
        self._fleet = fleet
        self._supervisor = supervisor
        self._running: dict[str, _Running] = {}
        self._places = asyncio.Semaphore(settings.limits.predictors)
        """Of processes. One that is to end keeps its place until it has; who follows it waits for that."""
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

    async def start(
        self, tenant: str, job: Job, *, measurement: str | None = None, taking: bool = False
    ) -> PredictorState:
        """Begin to launch the job's predictor unless there is one; messages may be sent to it at once.

        With `measurement`: from that image and not the current one. With `taking`: without a model, to take
        over one of older code.

        Raises:
            ImageUnknown: this gateway has no image of that measurement.
            JobNotSucceeded: there is no model to open.
            Overloaded: as many predictors run as may, and none has to make room for this tenant's.
            ShuttingDown: nothing new is begun.
        """
        name = job.spec.job
        self.require_image(measurement)
        if job.state is not JobState.SUCCEEDED:
            raise JobNotSucceeded("a predictor needs a job that succeeded")
        while (running := self._running.get(name)) and running.ending.is_set():
            await asyncio.wait({running.task})
        if running is None:
            if self._closing:
                raise ShuttingDown("the gateway is stopping")
            self._make_room(tenant)
            running = self._begun(tenant, job.spec, measurement, taking=taking)
        with running.enclave.in_use():
            return self.state(name)

    def _begun(self, tenant: str, spec: JobSpec, measurement: str | None, *, taking: bool) -> _Running:
        enclave, token = self._fleet.register(tenant, spec, Role.PREDICTOR)
        enclave.measurement, enclave.taking = measurement, taking
        ending = asyncio.Event()
        begun = _Running(enclave, ending, asyncio.create_task(self._run(enclave, token, ending)))
        self._running[spec.job] = begun
        return begun

    def _make_room(self, tenant: str) -> None:
        """Where as many run as may, end the one that has been idle longest of those that must give way.

        A tenant below its share takes a place of one above it, even if that predictor is in use: else the
        other would only have to keep them busy. A tenant that has its share gives way to itself.
        """
        staying = [one for one in self._running.values() if not one.ending.is_set()]
        if len(staying) < self._settings.limits.predictors:
            return
        held = Counter(one.enclave.tenant for one in staying)
        share = self._settings.limits.predictors_per_tenant
        if held[tenant] < share:
            giving_way = [one for one in staying if held[one.enclave.tenant] > share]
        else:
            giving_way = [one for one in staying if one.enclave.tenant == tenant and not one.enclave.asked]
        if not giving_way:
            raise Overloaded("as many predictors are running as this gateway allows")
        ended = max(giving_way, key=lambda one: one.enclave.idle_s)
        _LOG.info("predictor makes room", extra={"job": ended.enclave.spec.job})
        ended.ending.set()

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
        return await self.start(tenant, job, measurement=measurement)

    def _of(self, measurement: str | None) -> str:
        return measurement or self._images[0].measurement

    def require_image(self, measurement: str | None) -> None:
        """
        Raises:
            ImageUnknown: this gateway has no image of that measurement.
        """
        if measurement is not None and measurement not in {image.measurement for image in self._images}:
            raise ImageUnknown("this gateway has no enclave image of that measurement")

    async def resume(self, jobs: Sequence[tuple[str, Job]]) -> None:
        """Launch the predictors again that ran when the gateway ended, each job's with its tenant."""
        for tenant, job in jobs:
            try:
                await self.start(tenant, job)
            except ApiError as error:
                log_unexpected(error, job=job.spec.job)

    async def stop(self, job: str) -> None:
        """End the job's predictor.

        Raises:
            EnclaveNotRunning: there is none.
        """
        running = self._running.get(job)
        if running is None:
            raise EnclaveNotRunning("the job has no predictor; start one first")
        running.ending.set()
        await asyncio.wait({running.task})

    async def close(self) -> None:
        """End every predictor."""
        self._closing = True
        left = list(self._running.values())
        for running in left:
            running.ending.set()
        if left:
            await asyncio.wait({running.task for running in left})

    async def _run(self, enclave: LaunchedEnclave, token: str, ending: asyncio.Event) -> None:
        job = enclave.spec.job
        async with AsyncExitStack() as place:
            life = asyncio.create_task(self._live(enclave, token, place))
            told = asyncio.create_task(ending.wait())
            await asyncio.wait({life, told}, return_when=asyncio.FIRST_COMPLETED)
            ending.set()
            life.cancel()
            await asyncio.wait({life, told})
            if not life.cancelled() and (error := life.exception()) is not None:
                log_unexpected(error, job=job, enclave=enclave.name)
            await self._fleet.dismiss(job, frozenset({Role.PREDICTOR}))
        del self._running[job]

    async def _live(self, enclave: LaunchedEnclave, token: str, place: AsyncExitStack) -> None:
        """Launch it; return once it has ended, or nobody has asked it for long."""
        await place.enter_async_context(self._places)
        # The job's other enclaves must be gone: freeing what they held would take this one along.
        await self._supervisor.settled(enclave.spec.job)
        await self._fleet.start(enclave, token)
        while (left := self._settings.timing.predictor_idle_s - enclave.idle_s) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await enclave.gone.wait()
                return
        _LOG.info("predictor was idle", extra={"job": enclave.spec.job})


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
        with self._alone(name):
            if self._predictors.state(name) is not PredictorState.STOPPED:
                await self._predictors.stop(name)
            state = await self._predictors.start(tenant, job, taking=True)
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
        with self._alone(name):
            await self._require_ours(job, demand)
            try:
                evidence = await self._relay.give(giver, UpgradeMail(order=demand.order, peer=demand.taker))
                await self._relay.take(taker, UpgradeMail(order=demand.order, peer=evidence))
            finally:
                await self._fleet.stop(giver)
        taker.taking = False

    async def _require_ours(self, job: Job, demand: UpgradeDemand) -> None:
        """The giver seals the model to whatever its owner's order accepts. So what she has verified must be
        the enclave that waits here: else she could have it sealed to a program of her own, and read it.

        Raises:
            EnclaveRefused: it is another; and as `Relay.evidence`.
        """
        asked = EvidenceRequest(nonce=demand.order.order.nonce)
        shown = await self._relay.evidence(job, Role.PREDICTOR, asked)
        if shown.claims != demand.taker.claims:
            raise EnclaveRefused("upgrade-for-another-taker", "the evidence is not of the enclave that waits")

    @contextmanager
    def _alone(self, job: str) -> Iterator[None]:
        """One step of one upgrade of a job at a time.

        Raises:
            UpgradeRunning: there is another.
        """
        if job in self._running:
            raise UpgradeRunning("the job's model is on its way already")
        self._running.add(job)
        try:
            yield
        finally:
            self._running.discard(job)
