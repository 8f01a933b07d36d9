"""Vectors in and out of HTTP bodies, straight from and to preallocated memory, a piece at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from chiron.ps.errors import FrameInvalid

PIECE_BYTES = 256 * 1024
"""Handed to TLS at once: large enough to be cheap, small enough that the event loop stays free."""


class Body:
    """The rest of one request or response body, which is of a length already checked."""

    def __init__(self, stream: aiohttp.StreamReader, transport: asyncio.BaseTransport | None = None) -> None:
        self._stream = stream
        self._transport = transport
        self._aborted = False

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises:
            FrameInvalid: the body ended before.
        """
        try:
            return await self._stream.readexactly(size)
        except asyncio.IncompleteReadError:
            raise FrameInvalid("frame-truncated", "the body ended early") from None

    async def into(self, view: memoryview, filled: Callable[[int], None] = lambda _: None) -> None:
        """Fill `view`, bytes, with what follows; the one copy on the way is out of the TLS record's piece.

        `filled` is told after each piece how many bytes are there: what is to be done with them is cheapest
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
        """Read to the end and keep nothing: a refusal is only read by a peer that could finish sending."""
        while await self._stream.readany():
            pass

    def abort(self) -> None:
        """Break the connection: its peer has gone, or came back on another one. `into` writes no more."""
        self._aborted = True
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()


async def pieces(view: memoryview) -> AsyncIterator[memoryview]:
    """`view` in slices of `PIECE_BYTES`, with a turn of the event loop for others in between.

    Writing does not give them one by itself: it never waits while the peer reads as fast as we write.
    """
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
        await asyncio.sleep(0)


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The memory of a contiguous array, writable where the array is."""
    return array.view(np.uint8).data
