"""A program of its own: carry bytes between a listening socket of this machine and a port where we are.

    python -I -S door_relay.py LISTENING_FD PORT

`enter.py` becomes it, in a job's namespaces: the socket was opened outside, connections to the port are made
inside. TLS ends in the enclave; what is carried here is ciphertext. Standard library only.
"""

import asyncio
import contextlib
import socket
import sys

CONNECTIONS = 64
"""Carried at a time; more wait to be accepted."""
_PIECE_BYTES = 64 * 2**10
_IDLE_S = 600


async def main(listening: int, port: int) -> None:
    """Carry bytes until the gateway ends this process."""
    free = asyncio.Semaphore(CONNECTIONS)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with free:
            await _carry(reader, writer, port)

    outside = socket.socket(fileno=listening)
    async with await asyncio.start_server(carry, sock=outside, backlog=CONNECTIONS) as server:
        await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    try:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return
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
