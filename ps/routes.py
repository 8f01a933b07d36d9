"""HTTP routes of the exchange. Every body is checked for its exact size before a byte of it is read."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from chiron.ps.codec import (
    HEADER_BYTES,
    HELLO_BYTES,
    Hello,
    Kind,
)
from chiron.ps.errors import ExchangeError, ExchangeRefused, FrameInvalid, RolledBack, ServerFailed
from chiron.ps.server import ParameterServer
from chiron.ps.streams import Body, pieces
from chiron.ps.vectors import Frame, as_bytes
from chiron.wire import paths
from chiron.wire.answers import refusal

Identify: TypeAlias = Callable[[web.Request], int]
"""The index of the trainer at the other end of the connection; raises where there is none."""


_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def exchange_routes(server: ParameterServer, identify: Identify) -> list[web.RouteDef]:
    """The five requests that a trainer makes. `identify` comes first in each, before the body."""
    layout = server.layout

    async def hello(request: web.Request) -> web.StreamResponse:
        trainer = identify(request)
        body = _body(request, HELLO_BYTES)
        return _header(server.hello(trainer, Hello.parse(await body.read(HELLO_BYTES))).pack())

    async def publish(request: web.Request) -> web.StreamResponse:
        trainer = identify(request)
        body = _body(request, layout.publish_bytes)
        header, plan = layout.parse_plan(await body.read(layout.plan_head_bytes), Kind.PUBLISH)
        return _header((await server.publish(trainer, header, plan, body)).pack())

    async def start(request: web.Request) -> web.StreamResponse:
        trainer = identify(request)
        header = layout.expect(await _body(request, HEADER_BYTES).read(HEADER_BYTES), Kind.START)
        started, entry = await server.start(trainer, header.trial)
        return await _stream(request, layout.pack_plan(started, server.plan), entry.payload, entry.valid)

    async def push(request: web.Request) -> web.StreamResponse:
        trainer = identify(request)
        body = _body(request, layout.push_bytes)
        header, sums = layout.parse_head(await body.read(layout.head_bytes), Kind.PUSH)
        result = await server.push(trainer, header, sums, body)
        return await _stream(
            request, layout.pack_head(result.header, result.sums), result.payload, result.valid
        )

    async def agree(request: web.Request) -> web.StreamResponse:
        trainer = identify(request)
        header = layout.expect(await _body(request, HEADER_BYTES).read(HEADER_BYTES), Kind.SLOT)
        return _header((await server.agree(trainer, header.trial, header.exchange)).pack())

    return [
        web.post(paths.EXCHANGE_SLOT, _refusing(agree)),
        web.post(paths.EXCHANGE_HELLO, _refusing(hello)),
        web.post(paths.EXCHANGE_PUBLISH, _refusing(publish)),
        web.post(paths.EXCHANGE_START, _refusing(start)),
        web.post(paths.EXCHANGE_PUSH, _refusing(push)),
    ]


def _body(request: web.Request, size: int) -> Body:
    if request.content_length != size:
        raise FrameInvalid("frame-size", "the body has another size than its frame")
    return Body(request.content, request.transport)


def _header(frame: bytes) -> web.Response:
    return web.Response(body=frame, content_type="application/octet-stream")


async def _stream(
    request: web.Request, head: bytes, payload: Frame, valid: Callable[[], bool]
) -> web.StreamResponse:
    """Send `head` and `payload` from where they are in memory.

    A payload that changes under a slow reader would reach it torn, so then the connection is broken off: a
    reader that is still there asks again.
    """
    view = as_bytes(payload)
    response = web.StreamResponse()
    response.content_type = "application/octet-stream"
    response.content_length = len(head) + len(view)
    await response.prepare(request)
    await response.write(head)
    async for piece in pieces(view):
        if not valid():
            raise ConnectionAbortedError
        await response.write(piece)
    return response


def _refusing(handler: _Handler) -> _Handler:
    async def refusing(request: web.Request) -> web.StreamResponse:
        body = Body(request.content, request.transport)
        try:
            return await handler(request)
        except OSError:
            # The peer has gone, or must come back: what of the answer is on its way is not a whole frame.
            body.abort()
            raise
        except ExchangeError as error:
            status = 400
            if isinstance(error, ExchangeRefused | RolledBack):
                # The body is of a frame's size. Its sender reads a refusal only once all of it is sent.
                await body.drain()
                status = 409
            elif isinstance(error, ServerFailed):
                status = 503
            return refusal(status, error.code)

    return refusing
