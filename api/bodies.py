"""Request bodies read within bounds of size and time, and answers streamed from storage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from aiohttp import ClientPayloadError, web
from pydantic import BaseModel, ValidationError

from chiron.api.errors import BodyTooLarge, RequestInvalid, RequestTimeout
from chiron.api.problems import STARTED

_Model = TypeVar("_Model", bound=BaseModel)
JSON_CONTENT_TYPE = "application/json"
_MAX_FAULTS = 5
_LARGE_BYTES = 2**20
"""Answers up to this size are left to be sent when their request is over."""


def refuse_announced(request: web.Request, limit: int) -> None:
    """Refuse a body by its Content-Length, before any of it is read.

    Raises:
        BodyTooLarge: more than `limit` bytes were announced.
    """
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(f"at most {limit} bytes are taken here")


async def pieces(request: web.Request, limit: int, seconds: float) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises:
        BodyTooLarge: announced or arrived: more than `limit` bytes.
        RequestInvalid: the connection broke off.
        RequestTimeout: it was not here after `seconds`.
    """
    refuse_announced(request, limit)
    deadline = asyncio.get_running_loop().time() + seconds
    total = 0
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await request.content.readany()
        except TimeoutError:
            raise RequestTimeout(f"the body did not arrive in {seconds:g} s") from None
        except (ConnectionError, ClientPayloadError) as error:
            raise RequestInvalid("the body ended early") from error
        if not piece:
            return
        total += len(piece)
        if total > limit:
            raise BodyTooLarge(f"at most {limit} bytes are taken here")
        yield piece


async def read_body(
    request: web.Request, limit: int, seconds: float, arriving: Callable[[int], None]
) -> bytes:
    """The whole body; `arriving` is told of each piece's bytes, and may raise. Raises as `pieces`."""
    body = bytearray()
    async for piece in pieces(request, limit, seconds):
        arriving(len(piece))
        body += piece
    return bytes(body)


def parse_json(model: type[_Model], body: bytes) -> _Model:
    """The body as `model`.

    Raises:
        RequestInvalid: naming the fields that do not fit, and nothing of their values.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestInvalid(faults(error)) from None


def faults(error: ValidationError) -> str:
    """Which fields are wrong and why; without the values that were sent."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{_field(fault['loc'])}: {fault['msg']}"[:300] for fault in found[:_MAX_FAULTS]]
    if len(found) > _MAX_FAULTS:
        lines.append(f"and {len(found) - _MAX_FAULTS} more")
    return "; ".join(lines)


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)[:100] or "body"


async def sent(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """The answer, of which no more than a buffer is still to be sent."""
    if (
        isinstance(answer, web.Response)
        and isinstance(answer.body, bytes)
        and len(answer.body) > _LARGE_BYTES
    ):
        request[STARTED] = True
        await answer.prepare(request)
        await answer.write_eof()
    return answer


async def send_blob(request: web.Request, size: int, content: AsyncIterator[bytes]) -> web.StreamResponse:
    """Stream `size` stored bytes; a blob that turns out to be damaged is refused before the first byte.

    Raises:
        StorageDamaged: it is missing or of another length.
    """
    first = await anext(content, b"")
    response = web.StreamResponse(
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    )
    response.headers["Cache-Control"] = "private, no-store"
    request[STARTED] = True
    await response.prepare(request)
    if first:
        await response.write(first)
    async for piece in content:
        await response.write(piece)
    await response.write_eof()
    return response
