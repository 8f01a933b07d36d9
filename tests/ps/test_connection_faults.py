"""Connections that break, hang or belong to nobody: retried, taken over, or refused."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
import pytest

from chiron.ps import transport
from chiron.ps.barrier import Barrier
from chiron.ps.client import ParameterClient
from chiron.ps.codec import Header, Hello, Kind
from chiron.ps.errors import ExchangeRefused, ServerUnreachable
from chiron.ps.server import ParameterServer
from chiron.wire import paths
from chiron.wire.exchange import ExchangeSpec
from tests.ps.loopback import PLAN_BYTES, clients_of, job, serve, session_of, until
from tests.support.breaker import Breaker

N = 300_000
SPEC = ExchangeSpec(parameters=N, trainers=2, exchanges=10)


@asynccontextmanager
async def behind_breaker() -> AsyncIterator[tuple[ParameterServer, list[ParameterClient], Breaker, str]]:
    """A job whose trainer 1 reaches the server through a `Breaker`."""
    server = ParameterServer(SPEC, PLAN_BYTES)
    async with serve(server) as url:
        breaker = Breaker(int(url.rsplit(":", 1)[1]))
        async with breaker.listening() as relayed, session_of(0) as first, session_of(1) as second:
            clients = [
                ParameterClient(first, url, SPEC, PLAN_BYTES, patience_s=60),
                ParameterClient(second, relayed, SPEC, PLAN_BYTES, patience_s=60),
            ]
            await clients[0].publish(0, b"plan", np.zeros(N, np.float32))
            await asyncio.gather(*(client.start(0) for client in clients))
            yield server, clients, breaker, url


def push(client: ParameterClient, number: int, value: float) -> "asyncio.Task[float]":
    """Push a constant vector in the background; the merged vector's first element."""

    async def run() -> float:
        merged = await client.exchange(number, np.full(N, value, np.float32), np.ones(64))
        assert (merged.vector == merged.vector[0]).all()
        assert merged.sums[0] == 2.0
        return float(merged.vector[0])

    return asyncio.create_task(run())


async def test_an_answer_that_breaks_off_is_asked_for_again_and_is_the_same() -> None:
    async with behind_breaker() as (_, clients, breaker, _url):
        breaker.cut_after = N
        results = await asyncio.wait_for(
            asyncio.gather(push(clients[0], 0, 2.0), push(clients[1], 0, 4.0)), 60
        )
        assert breaker.cut_after is None
        assert list(results) == [3.0, 3.0]
        again = await asyncio.gather(push(clients[0], 1, 4.0), push(clients[1], 1, 4.0))
        assert list(again) == [4.0, 4.0]


async def test_a_connection_cut_while_waiting_for_the_others_counts_the_change_once() -> None:
    async with behind_breaker() as (server, clients, breaker, _url):
        waiting = push(clients[1], 0, 4.0)
        assert isinstance(server.exchange, Barrier)
        barrier = server.exchange
        await until(lambda: barrier.present == {1})
        breaker.cut()
        results = await asyncio.gather(push(clients[0], 0, 2.0), waiting)
        assert list(results) == [3.0, 3.0]


async def test_a_slow_link_slows_the_exchange_and_nothing_else() -> None:
    async with behind_breaker() as (_, clients, breaker, _url):
        breaker.delay_s = 0.002
        results = await asyncio.gather(push(clients[0], 0, 2.0), push(clients[1], 0, 4.0))
        assert list(results) == [3.0, 3.0]


async def test_a_trainer_that_comes_back_takes_over_from_its_half_open_connection() -> None:
    async with behind_breaker() as (_, clients, breaker, url):
        breaker.silent_after = N  # about a quarter of the frame arrives, then nothing, and no goodbye
        hanging = push(clients[1], 0, 99.0)
        await until(lambda: breaker.silent_after == 0)
        async with session_of(1) as session:
            replacement = ParameterClient(session, url, SPEC, PLAN_BYTES)
            start = await replacement.start(0)
            assert start.exchange == 0
            results = await asyncio.wait_for(
                asyncio.gather(push(clients[0], 0, 2.0), push(replacement, 0, 4.0)), 60
            )
        assert list(results) == [3.0, 3.0]
        hanging.cancel()


async def test_a_server_that_stays_away_is_reported_after_the_patience() -> None:
    async with session_of(0) as session:
        client = ParameterClient(session, "https://127.0.0.1:9", SPEC, PLAN_BYTES, patience_s=0.2)
        with pytest.raises(ServerUnreachable) as error:
            await client.start(0)
        assert error.value.code == "parameter-server-unreachable"


async def test_a_server_that_takes_connections_and_never_answers_is_away_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting for a handshake is no sign that the server was there, however long it lasts."""
    monkeypatch.setattr(transport, "TIMEOUT", aiohttp.ClientTimeout(total=None, sock_connect=0.1))
    monkeypatch.setattr(transport, "LASTED_S", 0.01)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with silent, session_of(0) as session, asyncio.timeout(30):
        url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        with pytest.raises(ServerUnreachable):
            await ParameterClient(session, url, SPEC, PLAN_BYTES, patience_s=0.5).start(0)


async def test_a_client_told_another_spec_is_refused_before_anything_else() -> None:
    async with serve(ParameterServer(SPEC, PLAN_BYTES)) as url, session_of(0) as session:
        other = SPEC.model_copy(update={"exchanges": 11})
        with pytest.raises(ExchangeRefused) as refusal:
            await ParameterClient(session, url, other, PLAN_BYTES).start(0)
        assert refusal.value.code == "spec-mismatch"


async def test_without_a_client_certificate_there_is_no_connection() -> None:
    async with serve(ParameterServer(SPEC, PLAN_BYTES)) as url:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(url + paths.EXCHANGE_HELLO, data=b"")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (paths.EXCHANGE_HELLO, b"", "frame-size"),
        (paths.EXCHANGE_HELLO, bytes(72), "frame-malformed"),
        (paths.EXCHANGE_HELLO, Hello(2, 3, bytes(32)).pack(), "version-unsupported"),
        (paths.EXCHANGE_START, Header(Kind.WELCOME).pack(), "frame-unexpected"),
        (paths.EXCHANGE_START, Header(Kind.START, version=9).pack(), "frame-version"),
        (paths.EXCHANGE_PUSH, bytes(100), "frame-size"),
        (paths.EXCHANGE_PUSH, bytes(32 + 64 * 8 + 4 * N), "frame-malformed"),
    ],
    ids=["empty", "garbage", "a later protocol", "wrong kind", "wrong version", "short", "zeros"],
)
async def test_what_is_no_frame_is_refused_with_a_code(path: str, body: bytes, code: str) -> None:
    async with serve(ParameterServer(SPEC, PLAN_BYTES)) as url, session_of(0) as session:
        response = await session.post(url + path, data=body)
        assert response.status == 400
        assert (await response.json(content_type="application/problem+json"))["code"] == code


async def test_a_body_without_a_length_is_refused() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)

    async with serve(ParameterServer(SPEC, PLAN_BYTES)) as url, session_of(0) as session:
        # The server answers and hangs up: which of the two a sender notices first is a matter of timing.
        try:
            response = await session.post(url + paths.EXCHANGE_PUSH, data=endless())
        except aiohttp.ClientError:
            return
        assert response.status == 400


async def test_a_failed_merge_fails_everyone_and_is_never_half_visible() -> None:
    async def full_disk() -> None:
        if server.exchange.next == 0:
            return
        raise OSError("no space left")

    server = ParameterServer(SPEC, PLAN_BYTES, persist=full_disk)
    async with serve(server) as url, clients_of(url, SPEC, patience_s=0.3) as clients:
        await clients[0].publish(0, b"", np.zeros(N, np.float32))
        await asyncio.gather(*(client.start(0) for client in clients))
        results = await asyncio.gather(
            *(client.exchange(0, np.ones(N, np.float32), np.zeros(64)) for client in clients),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [ServerUnreachable, ServerUnreachable]


async def test_the_exchange_is_over_for_nobody_while_a_job_goes_on() -> None:
    async with job(SPEC) as (_, clients):
        await clients[0].publish(0, b"", np.zeros(N, np.float32))
        await asyncio.gather(*(client.start(0) for client in clients))
        for number in range(SPEC.exchanges):
            await asyncio.gather(push(clients[0], number, 1.0), push(clients[1], number, 1.0))
