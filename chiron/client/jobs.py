"""A job as its owner follows it: is it the one asked for, how far is it, and how did it end."""

from collections.abc import AsyncGenerator

from pydantic import ValidationError

from chiron.client.errors import (
    GatewayError,
    GatewayMisbehaved,
    JobEnded,
    ReportUnreadable,
    SpecMismatch,
)
from chiron.client.gateway_session import GatewaySession, is_away, the_job
from chiron.client.store import JobRecord
from chiron.runtime.errors import OpenFailed
from chiron.runtime.reports import open_outcome, open_report
from chiron.wire import objects, paths
from chiron.wire.datasets import DatasetManifest
from chiron.wire.exchange import terms_of
from chiron.wire.jobs import TERMINAL_STATES, Job, JobRequest, JobSpec, JobState
from chiron.wire.objects import StoredObject
from chiron.wire.reports import Outcome, TrainingReport
from chiron.wire.retrying import Backoff

AWAY_S = 300.0
"""How long the gateway may be away, which may restart, before who follows a job gives up."""


def check_spec(spec: JobSpec, request: JobRequest, manifest: DatasetManifest) -> None:
    """Refuse a spec that is not what was asked for: our grant will bind its digest.

    Raises:
        SpecMismatch: naming the first field that differs.
    """
    answered = {
        "dataset": spec.dataset.digest(),
        "builder_sha256": spec.builder_sha256,
        "trainers": spec.exchange.trainers,
        "exchanges": spec.exchange.exchanges,
        "seed": spec.seed,
        "trials": spec.trials,
        "validation_percent": spec.validation_percent,
        "query_rows": spec.query_rows,
        "oblivious": spec.oblivious,
        "mode": spec.exchange.mode,
        "terms": terms_of(spec.exchange).model_dump(),
    }
    asked = request.model_dump(exclude={"dataset_id"}) | {"dataset": manifest.digest()}
    for name, value in answered.items():
        if value != asked[name]:
            raise SpecMismatch(f"the gateway's job has another {name} than was asked for")


async def watch(gateway: GatewaySession, job_id: str) -> AsyncGenerator[Job]:
    """The job each time it changes, until it has ended.

    A broken stream is opened again where it broke: a gateway that restarts takes its jobs up.

    Raises:
        GatewayUnreachable: the gateway stayed away for `AWAY_S`.
        GatewayMisbehaved: it told of another job.
    """
    seen: str | None = None
    backoff = Backoff(AWAY_S, first_pause_s=0.1)
    while True:
        try:
            async for event in gateway.events(paths.JOB_EVENTS.of(job_id), after=seen):
                backoff.reset()
                seen = event.id
                job = the_job(job_id, _parse(event.data))
                yield job
                if job.state in TERMINAL_STATES:
                    return
            await backoff.pause()
        except GatewayError as error:
            if not is_away(error):
                raise
            await backoff.after(error)


def raise_if_ended_badly(job: Job) -> None:
    """Refuse to go on with a job that did not run its schedule to the end.

    Raises:
        JobEnded: it failed or was cancelled.
    """
    if job.state is JobState.FAILED:
        code = job.failure.value if job.failure else "job-failed"
        raise JobEnded(f"the job failed: {code}", code=code)
    if job.state is JobState.CANCELLED:
        raise JobEnded("the job was cancelled", code="job-cancelled")


async def fetch_reports(gateway: GatewaySession, record: JobRecord) -> list[TrainingReport]:
    """The decrypted reports so far, in order.

    Raises:
        ReportUnreadable: one is not sealed to us as the report that it is stored as.
    """
    job, key = record.spec.job, record.private_key
    listed = {info.name for info in await gateway.objects(job)}
    reports = []
    for exchange in range(record.spec.exchange.exchanges):
        stored = objects.report(exchange)
        if stored.name in listed:
            sealed = await _fetch(gateway, job, stored)
            try:
                reports.append(open_report(sealed, exchange, job=job, owner_key=key))
            except OpenFailed as error:
                raise ReportUnreadable(f"{stored.name} is not a report of this job for us") from error
    return reports


async def fetch_outcome(gateway: GatewaySession, record: JobRecord) -> Outcome:
    """The job's outcome: how it really ended.

    Raises:
        ReportUnreadable: what is stored is not sealed to us for this job.
    """
    sealed = await _fetch(gateway, record.spec.job, objects.outcome())
    try:
        return open_outcome(sealed, job=record.spec.job, owner_key=record.private_key)
    except OpenFailed as error:
        raise ReportUnreadable("the stored outcome is not this job's, for us") from error


async def _fetch(gateway: GatewaySession, job: str, stored: StoredObject) -> bytes:
    return await gateway.fetch(paths.JOB_OBJECT.of(job, stored.name), limit=stored.stored_bytes)


def _parse(event: str) -> Job:
    try:
        return Job.model_validate_json(event)
    except ValidationError as error:
        raise GatewayMisbehaved("the gateway sent an event that is no job") from error
