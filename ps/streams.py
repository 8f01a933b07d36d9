"""Vectors in and out of HTTP bodies, straight from and to preallocated memory, a piece at a time."""

import asyncio
import ctypes
from collections.abc import AsyncIterator, Callable

import aiohttp

from chiron.ps.errors import FrameInvalid

PIECE_BYTES = 256 * 1024
"""Handed to TLS at once: large enough to be cheap, small enough that the event loop stays free."""

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_PIECE_BYTES = 4 * PIECE_BYTES
_KEPT_BYTES = 16 * PIECE_BYTES


class Body:
    """The rest of one request or response body, which is of a length already checked."""

    def __init__(self, stream: aiohttp.StreamReader, transport: asyncio.BaseTransport | None = None) -> None:
        self._stream = stream
        self._transport = transport
        self._aborted = False

    async def read(self, size: int) -> bytes:
        """Read exactly `size` bytes.

        Raises:
            FrameInvalid: the body ended before.
        """
        try:
            return await self._stream.readexactly(size)
        except asyncio.IncompleteReadError:
            raise FrameInvalid("frame-truncated", "the body ended early") from None

    async def into(self, view: memoryview, filled: Callable[[int], None] = lambda _: None) -> None:
        """Fill `view`, bytes, with what follows. The only copy on the way is out of the TLS record's piece.

        `filled` is called after each piece with the count of bytes that are there: work on them is cheapest
        while they are in the CPU's cache.
        """
        position = 0
        while position < len(view):
            piece = await self._stream.readany()
            end = position + len(piece)
            if not piece or end > len(view) or self._aborted:
                raise FrameInvalid("frame-truncated", "the body is not as long as its frame")
            view[position:end] = piece
            position = end
            filled(position)

    async def drain(self) -> None:
        """Read to the end and keep nothing: a peer reads a refusal only once it has sent everything."""
        while await self._stream.readany():
            pass

    def abort(self) -> None:
        """Break the connection, whose peer has gone or came back on another one. `into` writes no more."""
        self._aborted = True
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()


async def pieces(view: memoryview) -> AsyncIterator[memoryview]:
    """Yield slices of `PIECE_BYTES`, with a turn of the event loop for others in between.

    Writing does not give them one by itself: it never waits while the peer reads as fast as we write.
    """
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
        await asyncio.sleep(0)


def keep_freed_pieces() -> bool:
    """Let freed pieces, up to 4 MiB of them, stay with this process. False: the C library has no mallopt.

    With glibc's defaults the memory of the pieces (256 KiB in each of TLS, HTTP and the socket) goes back to
    the system when they are freed and is asked for again, page by page, for the next ones: 6 to 9 % of a
    server's processor time (docs/scaling.md). Vectors of over 1 MiB still are mappings of their own. What
    stays readable inside the process by that are pieces of frames, whose buffers it keeps anyway.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_PIECE_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
