"""/v1/jobs/{id}/events: a job's public progress as server-sent events, replayed from Last-Event-ID."""

import asyncio

from aiohttp import web

from chiron.api.errors import Overloaded, RequestInvalid
from chiron.api.keys import Principal
from chiron.api.operations import Call, Routes
from chiron.api.problems import STARTED
from chiron.api.public.callers import BOTH, sees_jobs_of
from chiron.api.storage.tables import EventRow
from chiron.wire import paths
from chiron.wire.jobs import TERMINAL_STATES, Job, JobState, PublicFailure

routes = Routes()
EVENT_STREAM = "text/event-stream"


@routes.add("GET", paths.JOB_EVENTS, roles=BOTH, answer=EVENT_STREAM)
async def follow(call: Call[Principal, None]) -> web.StreamResponse:
    """Follow a job to its end: each event's data is the job as `GET /v1/jobs/{id}` showed it then."""
    gateway = call.gateway
    job = await gateway.records.get(call.path("id"), sees_jobs_of(call.caller))
    after = _last_event_id(call.request)
    if gateway.open_streams >= gateway.settings.limits.event_streams:
        raise Overloaded("as many event streams are open as this gateway allows")
    gateway.open_streams += 1
    try:
        return await _stream(call, job, after)
    finally:
        gateway.open_streams -= 1


async def _stream(call: Call[Principal, None], job: Job, after: int) -> web.StreamResponse:
    gateway, name = call.gateway, job.spec.job
    response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"})
    call.request[STARTED] = True
    await response.prepare(call.request)
    while not gateway.stopping.is_set():
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
        if not await _changed(gateway.stopping, change, gateway.settings.timing.event_keepalive_s):
            await response.write(b": still here\n\n")
    await response.write_eof()
    return response


async def _changed(stopping: asyncio.Event, change: asyncio.Event, seconds: float) -> bool:
    waits = {asyncio.create_task(stopping.wait()), asyncio.create_task(change.wait())}
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
        }
    )
    return f"id: {row.sequence}\nevent: job\ndata: {shown.model_dump_json()}\n\n".encode()


def _last_event_id(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID", "0")
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise RequestInvalid("Last-Event-ID: the number of an event")
    return int(given)
