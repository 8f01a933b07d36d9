"""/v1/jobs: create, look, follow, cancel; and what the operator's side holds of them.

A job's events are its public progress as server-sent events, replayed from Last-Event-ID.
"""

import asyncio
import logging
import secrets
from collections.abc import Collection

from aiohttp import web

from chiron.api.bodies import JSON_CONTENT_TYPE, send_blob
from chiron.api.builders import Builders
from chiron.api.errors import Forbidden, JobDoesNotFit, RequestInvalid
from chiron.api.jobs.specification import make_spec
from chiron.api.key_watch import until
from chiron.api.keys import BOTH, GUESTS, OWNER, READERS, Principal, TenantRole, sees_jobs_of
from chiron.api.operations import Call, Routes
from chiron.api.problems import STARTED
from chiron.api.rates import MANIFEST_UNIT
from chiron.api.storage.tables import EventRow
from chiron.wire import paths
from chiron.wire.enclave_api import ObjectInfo, Observation
from chiron.wire.encoding import canonical_json
from chiron.wire.jobs import TERMINAL_STATES, Job, JobRequest, JobState, PublicFailure
from chiron.wire.objects import all_bytes
from chiron.wire.public_api import BuilderInfo, Page, PredictorState, PredictorStatus

routes = Routes()
_LOG = logging.getLogger(__name__)


@routes.add("POST", paths.JOBS, roles=OWNER, body=JobRequest, answer=Job, status=201)
async def create(call: Call[Principal, JobRequest]) -> Job:
    """Create a job and launch its enclaves; the answer holds the public spec that your grant must name."""
    gateway, request, tenant = call.gateway, call.body, call.caller.tenant
    builder = await _builder(gateway.builders, request)
    manifest = await gateway.datasets.manifest(tenant, request.dataset_id)
    complete = await gateway.datasets.is_complete(tenant, request.dataset_id)
    spec = make_spec(secrets.token_hex(16), request, manifest, complete, builder, gateway.settings.limits)
    size = len(canonical_json(spec))
    gateway.rates.charge(call.caller, size, MANIFEST_UNIT)
    # All that it can ever store: so nothing that its enclaves make is refused for want of room later.
    async with gateway.storage.room_for(tenant, size + all_bytes(spec)):
        return await gateway.supervisor.create(tenant, spec)


async def _builder(builders: Builders, request: JobRequest) -> BuilderInfo:
    """The builder that is meant: where several operators publish this component, whose is not guessed."""
    sha256, publisher = request.builder_sha256, request.builder_publisher
    published = await builders.published(sha256)
    if publisher is None and len(published) > 1:
        names = ", ".join(info.full_name for info in published[:20])
        raise JobDoesNotFit(f"builder_publisher: say whose is meant, as several publish it: {names}")
    return await builders.info(sha256, publisher)


@routes.add("GET", paths.JOBS, roles=READERS, answer=Page[Job])
async def list_jobs(call: Call[Principal, None]) -> web.Response:
    """List jobs, newest first: an owner's own, or everybody's for an operator."""
    page = await call.gateway.records.listed(sees_jobs_of(call.caller), call.page())
    return web.Response(body=page, content_type=JSON_CONTENT_TYPE)


@routes.add("GET", paths.JOB, roles=READERS, answer=Job)
async def show_job(call: Call[Principal, None]) -> Job:
    """Show a job's public state."""
    return await _job(call)


@routes.add("DELETE", paths.JOB, roles=OWNER)
async def delete_job(call: Call[Principal, None]) -> None:
    """Delete a job that has ended, with every object and key of its; refused while an enclave of it runs."""
    await call.gateway.deletion.job(call.caller.tenant, call.path("id"))
    call.gateway.storage.recount(call.caller.tenant)


@routes.add("POST", paths.JOB_CANCEL, roles=BOTH, answer=Job)
async def cancel(call: Call[Principal, None]) -> Job:
    """End a job and its enclaves."""
    job = await _job_to_end(call)
    await call.gateway.supervisor.cancel(job.spec.job)
    return await _job(call)


@routes.add("GET", paths.JOB_OBJECTS, roles=READERS, answer=Page[ObjectInfo])
async def list_objects(call: Call[Principal, None]) -> Page[ObjectInfo]:
    """List a job's sealed objects: names and sizes."""
    return await call.gateway.objects.listed((await _job(call)).spec.job, call.page())


@routes.add("GET", paths.JOB_OBJECT, roles=OWNER, answer="application/octet-stream")
async def fetch_object(call: Call[Principal, None]) -> web.StreamResponse:
    """Fetch a sealed object of your job."""
    size, content = await call.gateway.objects.get((await _job(call)).spec.job, call.path("name"))
    with call.gateway.key_watch.watching(call.caller) as ended:
        return await send_blob(call.request, size, until(ended, content))


@routes.add("GET", paths.JOB_OBSERVATIONS, roles=READERS, answer=Page[Observation])
async def list_observations(call: Call[Principal, None]) -> Page[Observation]:
    """List all that the operator's side stored and relayed for a job: kind, name, bytes."""
    return await call.gateway.observations.of((await _job(call)).spec.job, call.page())


@routes.add("POST", paths.JOB_PREDICTOR, roles=OWNER | GUESTS, answer=PredictorStatus, status=202)
async def start_predictor(call: Call[Principal, None]) -> PredictorStatus:
    """Start the predictor of a job that succeeded; if it runs already, nothing happens."""
    job, predictors = await _job(call), call.gateway.predictors
    if call.caller.role is TenantRole.GUEST:
        # Whatever runs stays: of which image it is to be, the owner says.
        await predictors.start(call.caller.tenant, job)
    else:
        await predictors.ensure(call.caller.tenant, job)
    return call.gateway.predictors.status(job.spec.job)


@routes.add("POST", paths.JOB_PREDICTOR_OF_IMAGE, roles=OWNER, answer=PredictorStatus, status=202)
async def start_predictor_of(call: Call[Principal, None]) -> PredictorStatus:
    """Start the predictor from the image of this measurement: one that the gateway keeps for older models."""
    job = await _job(call)
    await call.gateway.predictors.ensure(call.caller.tenant, job, call.path("sha256"))
    return call.gateway.predictors.status(job.spec.job)


@routes.add("GET", paths.JOB_PREDICTOR, roles=READERS | GUESTS, answer=PredictorStatus)
async def show_predictor(call: Call[Principal, None]) -> PredictorStatus:
    """Show whether a job's predictor runs, and where it is reached directly."""
    return call.gateway.predictors.status((await _job(call)).spec.job)


@routes.add("DELETE", paths.JOB_PREDICTOR, roles=BOTH, answer=PredictorStatus)
async def stop_predictor(call: Call[Principal, None]) -> PredictorStatus:
    """Stop a job's predictor."""
    await call.gateway.predictors.stop((await _job_to_end(call)).spec.job)
    return PredictorStatus(state=PredictorState.STOPPED)


async def _job(call: Call[Principal, None]) -> Job:
    return await call.gateway.records.get(call.path("id"), sees_jobs_of(call.caller))


async def _job_to_end(call: Call[Principal, None]) -> Job:
    """The job that is to be ended: its owner may, and an operator where the settings say so.

    Raises:
        Forbidden: an operator asked, and this gateway's settings give operators no such right.
    """
    job, caller = await _job(call), call.caller
    if caller.role is TenantRole.OPERATOR:
        if not call.gateway.settings.operator_may_cancel:
            raise Forbidden("operators publish, owners own: this gateway runs without --operator-may-cancel")
        facts = {"job": job.spec.job, "key": caller.key_id, "operation": call.request.method}
        _LOG.warning("an operator ends what is a tenant's", extra=facts)
    return job


EVENT_STREAM = "text/event-stream"


@routes.add("GET", paths.JOB_EVENTS, roles=READERS, answer=EVENT_STREAM)
async def follow(call: Call[Principal, None]) -> web.StreamResponse:
    """Follow a job to its end: each event's data is the job as `GET /v1/jobs/{id}` showed it then."""
    gateway = call.gateway
    job = await gateway.records.get(call.path("id"), sees_jobs_of(call.caller))
    after = _last_event_id(call.request)
    with gateway.streams.one_of(call.caller), gateway.key_watch.watching(call.caller) as key_ended:
        return await _stream(call, job, after, key_ended)


async def _stream(
    call: Call[Principal, None], job: Job, after: int, key_ended: asyncio.Event
) -> web.StreamResponse:
    gateway, name = call.gateway, job.spec.job
    response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"})
    call.request[STARTED] = True
    await response.prepare(call.request)
    over = gateway.stopping, key_ended
    while not any(event.is_set() for event in over) and await gateway.keys.holds(call.caller):
        change = gateway.records.next_change(name)
        ended = await gateway.records.state(name) in TERMINAL_STATES
        rows = await gateway.records.events(name, after)
        for row in rows:
            await response.write(_event(job, row))
            after = row.sequence
        if rows:
            continue
        if ended:
            break
        if not await _any_set((*over, change), gateway.settings.timing.event_keepalive_s):
            await response.write(b": still here\n\n")
    await response.write_eof()
    return response


async def _any_set(events: Collection[asyncio.Event], seconds: float) -> bool:
    waits = {asyncio.create_task(event.wait()) for event in events}
    done, pending = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return bool(done)


def _event(job: Job, row: EventRow) -> bytes:
    shown = job.model_copy(
        update={
            "state": JobState(row.state),
            "exchanges_done": row.exchanges_done,
            "failure": PublicFailure(row.failure) if row.failure else None,
            "awaiting_owner": row.awaiting_owner,
        }
    )
    return f"id: {row.sequence}\nevent: job\ndata: {shown.model_dump_json()}\n\n".encode()


def _last_event_id(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID", "0")
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise RequestInvalid("Last-Event-ID: the number of an event")
    return int(given)
