"""A bad link between a trainer and its server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Breaker:
    """A TCP relay that can cut, or fall silent after a number of bytes to or from the server.

    It never passes an end on: a connection whose client is gone stays open towards the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self.cut_after: int | None = None
        """Cut the connection once this many more bytes went towards the client."""
        self.delay_s = 0.0
        """Before every 16 KiB: a slow link."""
        self.silent_after: int | None = None
        """Swallow what comes once this many more bytes went towards the server."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL of the relay."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        try:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.cut()
            for pump in self._pumps:
                pump.cancel()

    def cut(self) -> None:
        """Break every connection off, without a goodbye."""
        while self._writers:
            self._writers.pop().transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, there[1]]
        up = asyncio.create_task(self._pump(reader, there[1], "silent_after"))
        down = asyncio.create_task(self._pump(there[0], writer, "cut_after"))
        self._pumps |= {up, down}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: str) -> None:
        while piece := await reader.read(16_384):
            left = getattr(self, limit)
            if left is not None:
                setattr(self, limit, max(0, left - len(piece)))
                if left == 0 and limit == "cut_after":
                    self.cut_after = None
                    return self.cut()
                if left == 0:
                    continue
            await asyncio.sleep(self.delay_s)
            writer.write(piece)
            await writer.drain()
        return None
