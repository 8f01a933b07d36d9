"""The enclave's client of the gateway: patient with one that is away, trusting of none that answers."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from chiron.runtime.channels.gateway_client import MAX_PROBLEM_BYTES, GatewayClient
from chiron.runtime.errors import EnclaveError, GatewayRefused, GatewayUnreachable, InputCorrupted
from chiron.wire.answers import refusal
from chiron.wire.launch import GatewayChannel
from chiron.wire.retrying import Backoff

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def away(request: web.Request) -> web.StreamResponse:
    """Hang up without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def stopping(_: web.Request) -> web.StreamResponse:
    return refusal(503, "shutting-down")


async def gone(_: web.Request) -> web.StreamResponse:
    return refusal(409, "enclave-gone")


async def nothing_yet(_: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


def body(content: bytes, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=content)

    return answer


@dataclass
class Gateway:
    """Answers in the order given, the last one for ever. Only its clients' pauses move the clock."""

    answers: list[Answer]
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    now: float = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.paths.append(request.path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    @asynccontextmanager
    async def client(self) -> AsyncIterator[GatewayClient]:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        channel = GatewayChannel(url=f"http://127.0.0.1:{port}", token="t")

        def patience() -> Backoff:
            return Backoff(120, clock=lambda: self.now, sleep=self.sleep)

        try:
            async with GatewayClient(channel, patience) as client:
                yield client
        finally:
            await runner.cleanup()


async def test_a_request_outlives_a_gateway_that_restarts_and_its_payload_is_sent_whole_again() -> None:
    gateway = Gateway([away, stopping, away, nothing_yet])
    payload = bytes(range(256)) * 4096
    async with gateway.client() as client:
        await client.put_object("model", payload)
    assert gateway.bodies == [payload] * 4


@pytest.mark.parametrize("answer", [away, stopping])
async def test_a_gateway_that_stays_away_is_given_up_when_the_patience_ends(answer: Answer) -> None:
    gateway = Gateway([answer])
    async with gateway.client() as client:
        with pytest.raises(GatewayUnreachable) as error:
            await client.get_object("model", 10)
    assert error.value.code == "gateway-unreachable"
    assert gateway.now == pytest.approx(120)


async def test_a_refusal_is_not_repeated_and_keeps_its_code() -> None:
    gateway = Gateway([lambda _: refused()])
    async with gateway.client() as client:
        with pytest.raises(GatewayRefused) as error:
            await client.get_object("model", 10)
    assert (error.value.code, len(gateway.paths)) == ("object-refused", 1)


async def refused() -> web.StreamResponse:
    return refusal(409, "object-refused")


@pytest.mark.parametrize("problem", [b"", b"<html>", b'{"code": "No Code"}', b"[" * MAX_PROBLEM_BYTES])
async def test_a_refusal_that_is_no_problem_is_one_all_the_same(problem: bytes) -> None:
    async with Gateway([body(problem, 400)]).client() as client:
        with pytest.raises(GatewayRefused) as error:
            await client.get_object("model", 10)
    assert error.value.code == "gateway-error"


@pytest.mark.parametrize(("status", "size"), [(200, 1001), (200, 10**7), (404, MAX_PROBLEM_BYTES + 1)])
async def test_an_answer_beyond_its_bound_is_not_read(status: int, size: int) -> None:
    async with Gateway([body(bytes(size), status)]).client() as client:
        with pytest.raises(InputCorrupted) as error:
            await client.get_object("model", 1000)
    assert error.value.code == "answer-too-large"


async def test_only_an_object_that_is_unknown_is_none() -> None:
    async def unknown(_: web.Request) -> web.StreamResponse:
        return refusal(404, "object-unknown")

    async with Gateway([unknown, body(b"sealed"), gone]).client() as client:
        assert await client.find_object("model", 10) is None
        assert await client.find_object("model", 10) == b"sealed"
        with pytest.raises(GatewayRefused):
            await client.find_object("model", 10)


async def test_a_builder_is_the_one_that_was_asked_for() -> None:
    digest = hashlib.sha256(b"builder").hexdigest()
    async with Gateway([body(b"builder"), body(b"another")]).client() as client:
        assert await client.builder(digest) == b"builder"
        with pytest.raises(InputCorrupted):
            await client.builder(digest)


async def test_a_peer_that_crashed_is_waited_for_and_one_that_stays_away_is_not() -> None:
    gateway = Gateway([gone, nothing_yet, gone, body(b'{"address": "10.0.0.1:9"}')])
    async with gateway.client() as client:
        assert (await client.parameter_server()).address == "10.0.0.1:9"
        gateway.answers = [gone]
        with pytest.raises(GatewayRefused) as error:
            await client.shard(1)
    assert error.value.code == "enclave-gone"


@pytest.mark.parametrize("message", [b"{", b"[]", b'{"address": 1}', b'{"unknown": 1}', b"\xff"])
async def test_a_message_that_is_none_is_refused(message: bytes) -> None:
    async with Gateway([body(message)]).client() as client:
        with pytest.raises(EnclaveError) as error:
            await client.parameter_server()
    assert error.value.code == "gateway-message-invalid"
