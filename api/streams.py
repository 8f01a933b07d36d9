"""Answers that are streamed: stored bytes."""

from collections.abc import AsyncIterator

from aiohttp import web

from chiron.api.problems import STARTED


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
