"""What the client makes of a gateway that breaks off, stalls or lies about its interface."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from chiron.client import gateway_session as module
from chiron.client.errors import GatewayError, GatewayMisbehaved, GatewayUnreachable
from chiron.client.gateway_session import Event, GatewaySession
from chiron.client.jobs import watch
from chiron.wire.enclave_api import ObjectInfo
from chiron.wire.jobs import Job, JobState
from tests.support.specs import JOB, job_spec

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[GatewaySession]]]:
    """A session with a server that answers everything with one handler."""
    runners: list[web.AppRunner] = []
    sessions: list[GatewaySession] = []

    async def start(handler: Handler) -> GatewaySession:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        sessions.append(GatewaySession(f"http://127.0.0.1:{runner.addresses[0][1]}", "key"))
        return sessions[-1]

    yield start
    for session in sessions:
        await session.close()
    for runner in runners:
        await runner.cleanup()


Serve = Callable[[Handler], Awaitable[GatewaySession]]


def job(state: JobState, exchanges_done: int = 0) -> Job:
    spec = job_spec(job=JOB, exchange={"trainers": 1, "exchanges": 9})
    return Job(spec=spec, state=state, exchanges_done=exchanges_done, created_at="2026-01-01T00:00:00Z")


async def test_a_read_survives_a_gateway_that_is_away_for_a_moment(serve: Serve) -> None:
    attempts = itertools.count()

    async def handler(request: web.Request) -> web.StreamResponse:
        attempt = next(attempts)
        if attempt == 0:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if attempt == 1:
            return web.json_response(
                {"title": "stopping", "status": 503, "code": "shutting-down"}, status=503
            )
        return web.json_response({"items": [{"name": "model", "size": 3}], "next": None})

    session = await serve(handler)
    assert await session.objects(JOB) == [ObjectInfo(name="model", size=3)]


async def test_what_changes_something_is_sent_once(serve: Serve) -> None:
    attempts: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        attempts.append(request.path)
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    session = await serve(handler)
    with pytest.raises(GatewayUnreachable):
        await session.post(f"/v1/jobs/{JOB}/cancel")
    assert len(attempts) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"spec": 1}', b"\xff\xfe"])
async def test_an_answer_that_is_no_job_is_refused(serve: Serve, body: bytes) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    session = await serve(handler)
    with pytest.raises(GatewayMisbehaved):
        await session.job(JOB)


async def test_an_answer_without_end_is_cut_off(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65_536))
        except ConnectionError:
            return response

    session = await serve(handler)
    with pytest.raises(GatewayMisbehaved, match="exceeds 1000"):
        await session.fetch("/x", limit=1000)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"title": "t", "status": 409, "code": "job-ended", "detail": "it is over"}', "job-ended"),
        (b"<html>proxy error</html>", "gateway-error"),
        (b'{"title": "t", "status": 409, "code": "Not A Code"}', "gateway-error"),
        (b"", "gateway-error"),
    ],
)
async def test_problems_keep_their_code_and_others_get_one(serve: Serve, body: bytes, code: str) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=409, body=body)

    session = await serve(handler)
    with pytest.raises(GatewayError) as caught:
        await session.job(JOB)
    assert (caught.value.code, caught.value.status) == (code, 409)


async def test_watching_goes_on_where_a_broken_stream_ended(serve: Serve) -> None:
    asked_after: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        after = request.headers.get("Last-Event-ID")
        asked_after.append(after)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if after is None:
            await response.write(b": hello\n\n" + event(1, job(JobState.TRAINING, 1)) + b"id: 2\nevent: j")
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(event(2, job(JobState.TRAINING, 2)).replace(b"\n", b"\r\n"))
            await response.write(event(3, job(JobState.SUCCEEDED, 9)))
        return response

    session = await serve(handler)
    seen = [now.exchanges_done async for now in watch(session, JOB)]
    assert seen == [1, 2, 9]
    assert asked_after == [None, "1"]


def event(number: int, shown: Job) -> bytes:
    return f"id: {number}\nevent: job\ndata: {shown.model_dump_json()}\n\n".encode()


async def test_an_event_that_is_no_job_or_never_ends_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 10_000)
    bodies = iter([b"data: {}\n\n", b"data: " + b"x" * 20_000])

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(next(bodies))
        return response

    session = await serve(handler)
    for _ in range(2):
        with pytest.raises(GatewayMisbehaved):
            async for _job in watch(session, JOB):
                pass


async def test_a_refused_watch_is_an_error_not_a_retry(serve: Serve) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response({"title": "t", "status": 404, "code": "job-unknown"}, status=404)

    session = await serve(handler)
    with pytest.raises(GatewayError) as caught:
        async for _ in watch(session, JOB):
            pass
    assert caught.value.code == "job-unknown"


def test_several_data_lines_are_one_event() -> None:
    event = Event().with_line("id: 7").with_line("data: a").with_line("data:b").with_line("retry: 5")
    assert event == Event("7", "a\nb")
