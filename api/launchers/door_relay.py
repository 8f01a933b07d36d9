"""A program of its own: carry bytes between a listening socket of this machine and a port where we are.

    python -I -S door_relay.py LISTENING_FD PORT

`enter.py` becomes it, in a job's namespaces: the socket was opened outside, connections to the port are made
inside. TLS ends in the enclave; what is carried here is ciphertext. Standard library only.

The enclave cannot tell one caller's address from another's, so places are shared out here. Whoever has sent
nothing yet makes room for a new connection; whoever sends too slowly, the enclave's own door closes.
"""

import asyncio
import contextlib
import socket
import sys
from dataclasses import dataclass

CONNECTIONS = 64
"""Carried at a time."""
CONNECTIONS_PER_ADDRESS = 32
SILENT_S = 10
"""The time to the first byte."""
_PIECE_BYTES = 64 * 2**10
_IDLE_S = 600


@dataclass(eq=False)
class _Caller:
    """A connection from outside."""

    address: str
    writer: asyncio.StreamWriter
    spoke: bool = False


class Relay:
    """Carries connections to `port` at this machine's loopback, as many as have a place."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._callers: list[_Caller] = []
        """In the order that they came."""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end, or refuse it."""
        caller = _Caller(str(writer.get_extra_info("peername")[0]), writer)
        if not self._has_room(caller.address):
            writer.transport.abort()
            return
        self._callers.append(caller)
        try:
            async with asyncio.timeout(SILENT_S):
                first = await reader.read(_PIECE_BYTES)
            caller.spoke = True
            if first:
                await self._carry(first, reader, writer)
        except (OSError, TimeoutError):
            pass
        finally:
            if caller in self._callers:
                self._callers.remove(caller)
            writer.transport.abort()

    def _has_room(self, address: str) -> bool:
        mine = [caller for caller in self._callers if caller.address == address]
        if len(mine) >= CONNECTIONS_PER_ADDRESS:
            return self._made_room(mine)
        return len(self._callers) < CONNECTIONS or self._made_room(self._callers)

    def _made_room(self, callers: list[_Caller]) -> bool:
        silent = next((caller for caller in callers if not caller.spoke), None)
        if silent is None:
            return False
        self._callers.remove(silent)
        silent.writer.transport.abort()
        return True

    async def _carry(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        inner_writer.write(first)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, inner_writer))
                both.create_task(_pump(inner_reader, writer))
        except* (OSError, TimeoutError):
            pass
        finally:
            for end in (writer, inner_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()


async def main(listening: int, port: int) -> None:
    """Carry bytes until the gateway ends this process."""
    outside = socket.socket(fileno=listening)
    async with await asyncio.start_server(Relay(port).carry, sock=outside, backlog=CONNECTIONS) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(_IDLE_S):
            piece = await reader.read(_PIECE_BYTES)
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
