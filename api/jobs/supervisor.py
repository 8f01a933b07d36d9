"""Runs jobs: launches their enclaves, notices how they end, and never leaves a process or a job behind."""

import asyncio
import logging
from datetime import UTC, datetime

from chiron.api.errors import ApiError, JobEnded, ShuttingDown, TooManyJobs
from chiron.api.jobs.fleet import Fleet, LaunchedEnclave
from chiron.api.jobs.record import JobRecords
from chiron.api.monitoring import Metrics
from chiron.api.problems import log_unexpected
from chiron.api.settings import Settings
from chiron.wire.attestation import Role
from chiron.wire.jobs import TERMINAL_STATES, Job, JobSpec, JobState, PublicFailure

_LOG = logging.getLogger(__name__)

TRAINING = frozenset({Role.PARAMETER_SERVER, Role.SHARD, Role.TRAINER})
"""Roles whose enclaves live as long as the job does."""

KILLED = 128
"""An exit code above this says by which signal an enclave ended."""
STOPPED = 128 + 15
"""SIGTERM: we asked."""


class _Run:
    """A job that has processes."""

    def __init__(
        self, tenant: str, spec: JobSpec, fleet: Fleet, limit_s: float, *, left_over: bool = False
    ) -> None:
        self.tenant = tenant
        self.spec = spec
        self.limit_s = limit_s
        """The time that it may still run."""
        self.left_over = left_over
        """Whether an earlier gateway process began it."""
        # Its mailbox is there before the owner knows the job's id: no message can be too early.
        self.parameter_server, self.token = fleet.register(tenant, spec, Role.PARAMETER_SERVER)
        self.ended = asyncio.Event()
        self.succeeded = False
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """Runs every job, each in a task of its own."""

    def __init__(self, settings: Settings, records: JobRecords, fleet: Fleet, metrics: Metrics) -> None:
        self._settings = settings
        self._records = records
        self._fleet = fleet
        self._metrics = metrics
        self._runs: dict[str, _Run] = {}
        self._closing = False

    async def reconcile(self) -> None:
        """Settle, at start, which jobs of an earlier gateway process go on; `resume` begins them."""
        for tenant, job in await self._records.unfinished():
            name = job.spec.job
            left_s = remaining_s(job.created_at, datetime.now(UTC), self._settings.timing.job_s)
            launches = await self._fleet.launches(name, Role.PARAMETER_SERVER)
            failure = why_over(left_s, launches, self._settings)
            if failure is None:
                self._runs[name] = _Run(tenant, job.spec, self._fleet, left_s, left_over=True)
            else:
                await self.advance(name, JobState.FAILED, failure=failure)

    def resume(self) -> None:
        """Launch the enclaves of left-over jobs again: they go on from their checkpoints, or from the grant.

        Only when the enclaves' socket is there, which the launcher shows them.
        """
        left = [run for run in self._runs.values() if run.left_over]
        for run in left:
            _LOG.warning("job taken up", extra={"job": run.spec.job})
            run.task = asyncio.create_task(self._run(run))

    async def create(self, tenant: str, spec: JobSpec) -> Job:
        """Write the job down and begin to launch it.

        Raises:
            TooManyJobs: the gateway, or this tenant, runs as many as it may.
            ShuttingDown: nothing new is begun.
        """
        if self._closing:
            raise ShuttingDown("the gateway is stopping")
        limits = self._settings.limits
        mine = sum(run.tenant == tenant for run in self._runs.values())
        if len(self._runs) >= limits.running_jobs or mine >= limits.running_jobs_per_tenant:
            raise TooManyJobs("as many jobs are running as this gateway allows")
        # Counted before the first await, or a burst would pass the limit together.
        run = self._runs[spec.job] = _Run(tenant, spec, self._fleet, self._settings.timing.job_s)
        try:
            job = await self._records.create(tenant, spec)
        except BaseException:
            del self._runs[spec.job]
            await self._fleet.dismiss(spec.job, TRAINING)
            raise
        run.task = asyncio.create_task(self._run(run))
        return job

    async def advance(
        self,
        job: str,
        state: JobState,
        exchanges_done: int = 0,
        failure: PublicFailure | None = None,
        slot_s: float | None = None,
    ) -> bool:
        """`JobRecords.advance`, and what follows from a job's end.

        While we stop, what enclaves say of their end is our own doing: their jobs go on at the next start.
        """
        if self._closing and state is JobState.FAILED:
            return False
        moved = await self._records.advance(job, state, exchanges_done, failure, slot_s)
        if moved:
            self._metrics.jobs.labels(state).inc()
            _LOG.info("job moved", extra={"job": job, "state": state, "failure": failure})
        if state in TERMINAL_STATES and job in self._runs:
            self._runs[job].succeeded = state is JobState.SUCCEEDED
            self._runs[job].ended.set()
        return moved

    async def cancel(self, job: str) -> None:
        """End a job now; its enclaves are stopped after this returns.

        Raises:
            JobEnded: it had ended otherwise.
        """
        await self.advance(job, JobState.CANCELLED)

    async def settled(self, job: str) -> None:
        """Wait until none of the job's training enclaves runs."""
        run = self._runs.get(job)
        if run is not None and run.task is not None:
            await asyncio.wait({run.task})

    async def close(self) -> None:
        """End every job's enclaves; the next start takes the jobs up."""
        self._closing = True
        running = list(self._runs.values())
        for run in running:
            run.ended.set()
        tasks = {run.task for run in running if run.task is not None}
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, run: _Run) -> None:
        job = run.spec.job
        work = asyncio.create_task(self._launch_and_watch(run))
        ended = asyncio.create_task(run.ended.wait())
        try:
            done, _ = await asyncio.wait(
                {work, ended}, timeout=run.limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                await self._fail(job, PublicFailure.DEADLINE_EXCEEDED)
            elif ended not in done:
                await self._fail(job, work.result())
        except Exception as error:
            log_unexpected(error, job=job)
            await self._fail(job, PublicFailure.INTERNAL)
        finally:
            ended.cancel()
            work.cancel()
            await asyncio.wait({work, ended})
            # Enclaves of a job that succeeded are about to leave by themselves.
            leave_s = self._settings.timing.enclave_stop_s if run.succeeded else 0
            await self._fleet.dismiss(job, TRAINING, leave_s)
            del self._runs[job]

    async def _launch_and_watch(self, run: _Run) -> PublicFailure:
        """Returns only if the job must fail."""
        job = run.spec.job
        if await self._records.state(job) is JobState.CREATED:
            await self.advance(job, JobState.LAUNCHING)
        try:
            enclaves = await self._launch(run)
        except Exception as error:
            # Launchers are many; whatever one raises, the job has not started.
            log_unexpected(error, job=job, reason=_reason(error))
            return PublicFailure.LAUNCH_FAILED
        await self._until_lost(run, enclaves)
        return PublicFailure.ENCLAVE_EXITED

    async def _launch(self, run: _Run) -> list[LaunchedEnclave]:
        """The parameter server, then its other shards and the trainers side by side."""
        await self._fleet.start(run.parameter_server, run.token)
        exchange = run.spec.exchange
        places = [
            *((Role.SHARD, index) for index in range(1, exchange.shards)),
            *((Role.TRAINER, index) for index in range(exchange.trainers)),
        ]
        others = [self._fleet.register(run.tenant, run.spec, role, index) for role, index in places]
        async with asyncio.TaskGroup() as launches:
            for enclave, token in others:
                launches.create_task(self._fleet.start(enclave, token))
        return [run.parameter_server, *(enclave for enclave, _ in others)]

    async def _until_lost(self, run: _Run, enclaves: list[LaunchedEnclave]) -> None:
        """Return when the job cannot come to its end any more.

        A trainer or shard that leaves in order (exit code 0) has done its part. One that crashed is launched
        again, up to a limit: it takes up its work where the others are. Any other exit is fatal, and so is
        the parameter server's unless it crashed: it reports the job's success before it leaves.
        """
        waiting = {asyncio.create_task(enclave.gone.wait()): enclave for enclave in enclaves}
        restarts = self._settings.limits.restarts
        timeout: float | None = None
        try:
            while True:
                done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                left = [waiting.pop(task) for task in done]
                crashed = [enclave for enclave in left if _crashed(enclave)]
                restarts -= len(crashed)
                if not left or restarts < 0 or any(_is_fatal(enclave) for enclave in left):
                    return
                for replacement in await self._launch_again(run, crashed):
                    waiting[asyncio.create_task(replacement.gone.wait())] = replacement
                if all(enclave.role is not Role.TRAINER for enclave in waiting.values()):
                    timeout = self._settings.timing.last_trainer_s
        finally:
            for task in waiting:
                task.cancel()

    async def _launch_again(self, run: _Run, crashed: list[LaunchedEnclave]) -> list[LaunchedEnclave]:
        """The crashed enclaves' replacements."""
        # All are known before the first is launched: their peers must find them at once, if not ready yet.
        replacements = [
            self._fleet.register(run.tenant, run.spec, enclave.role, enclave.index) for enclave in crashed
        ]
        for enclave, token in replacements:
            _LOG.warning("launching again", extra={"job": run.spec.job, "enclave": enclave.name})
            await self._fleet.start(enclave, token)
        return [enclave for enclave, _ in replacements]

    async def _fail(self, job: str, failure: PublicFailure) -> None:
        try:
            await self.advance(job, JobState.FAILED, failure=failure)
        except JobEnded:
            # It ended first, in its own way; its task may even be gone already.
            if run := self._runs.get(job):
                run.ended.set()


def remaining_s(created_at: str, at: datetime, job_s: float) -> float:
    """Seconds that a job of this age still has.

    The wall clock is asked only here, between two processes: within one, deadlines are counted by a clock
    that only goes forward. A clock that was set back gives a job no more than it had at its beginning.
    """
    age = (at - datetime.fromisoformat(created_at).astimezone(UTC)).total_seconds()
    return job_s - max(0.0, age)


def why_over(remaining: float, launches: int, settings: Settings) -> PublicFailure | None:
    """The failure that ends a left-over job, or None if its enclaves are launched again.

    `launches` counts how often its parameter server was.
    """
    if remaining <= 0:
        return PublicFailure.DEADLINE_EXCEEDED
    if launches >= settings.limits.launches:
        return PublicFailure.ENCLAVE_EXITED
    return None


def _crashed(enclave: LaunchedEnclave) -> bool:
    """Ended by a signal that was not our own request. One that left by itself would only do so again."""
    return enclave.exit_code is not None and enclave.exit_code > KILLED and enclave.exit_code != STOPPED


def _is_fatal(enclave: LaunchedEnclave) -> bool:
    return not _crashed(enclave) and (enclave.role is Role.PARAMETER_SERVER or enclave.exit_code != 0)


def _reason(error: Exception) -> str:
    """Errors of our own tree have messages fit for the log."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reason(inner) for inner in error.exceptions if isinstance(inner, Exception))
    return str(error) if isinstance(error, ApiError) else type(error).__qualname__
