"""The host's view of a job: all that an enclave sends or receives passes through here and is noted.

`GatewayTap` stands between an enclave and the gateway (HTTP over a Unix socket), `TlsTap` between two
enclaves. Both see what a host sees, and change what a host may change: addresses.
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import aiohttp
from aiohttp import web

_IDENTIFIER = re.compile(r"[0-9a-f]{32,64}")
RECORD_HEADER_BYTES = 5
HANDSHAKE_RECORDS = 12
"""At the beginning of a connection: handshake and enrolment."""
SIGNATURE_SLACK_BYTES = 12
"""Random integers in DER lose leading zeros: ECDSA signatures and serial numbers vary by some bytes."""


@dataclass(frozen=True)
class Call:
    """One request to the gateway: method, path without identifiers, sizes both ways, status."""

    method: str
    path: str
    sent: int
    status: int
    received: int
    at: float = field(default=0.0, compare=False, repr=False)
    """When it came, by the event loop's clock."""
    answered: float = field(default=0.0, compare=False, repr=False)


@dataclass
class Connection:
    """Lengths of the TLS records that went up to the server and down from it."""

    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)

    def equals(self, other: "Connection") -> bool:
        """Whether a host could not tell the two apart."""
        return _same(self.up, other.up) and _same(self.down, other.down)


def _same(one: list[int], other: list[int]) -> bool:
    if len(one) != len(other):
        return False
    slack = [SIGNATURE_SLACK_BYTES if place < HANDSHAKE_RECORDS else 0 for place in range(len(one))]
    return all(abs(a - b) <= s for a, b, s in zip(one, other, slack, strict=True))


@dataclass
class EnclaveTrace:
    """All that a host sees of one enclave."""

    calls: list[Call] = field(default_factory=list)
    connections: defaultdict[str, list[Connection]] = field(default_factory=lambda: defaultdict(list))
    """By whom they lead to: `parameter-server`, `shards/1`…"""
    log_lines: list[str] = field(default_factory=list)
    exit_code: int | None = None


class RecordLengths:
    """Cuts one direction of a TLS connection into its records."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self._pending = bytearray()
        self._skip = 0

    def feed(self, piece: bytes) -> None:
        """More bytes went by."""
        self._pending += piece
        while True:
            skipped = min(self._skip, len(self._pending))
            del self._pending[:skipped]
            self._skip -= skipped
            if len(self._pending) < RECORD_HEADER_BYTES:
                return
            self._skip = int.from_bytes(self._pending[3:5])
            self._lengths.append(self._skip)
            del self._pending[:RECORD_HEADER_BYTES]


class TlsTap:
    """A TCP relay to another enclave that notes the lengths of all records."""

    def __init__(self, connections: list[Connection], host: str, port: int) -> None:
        self._connections = connections
        self._target = host, port
        self._pumps: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(self, stack: AsyncExitStack) -> None:
        """Listen; what is left of it ends with `stack`."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stack.callback(server.close)
        stack.push_async_callback(self._end)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection()
        self._connections.append(connection)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            # The enclave has ended.
            writer.close()
            return
        for source, sink, lengths in (
            (reader, up_writer, connection.up),
            (up_reader, writer, connection.down),
        ):
            task = asyncio.create_task(self._pump(source, sink, RecordLengths(lengths)))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lengths: RecordLengths
    ) -> None:
        try:
            while piece := await reader.read(65_536):
                lengths.feed(piece)
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()

    async def _end(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


PassOn: TypeAlias = Callable[[], Awaitable[web.Response]]
"""The gateway's answer to the call that is being disturbed, once it is passed on."""
Disturb: TypeAlias = Callable[[str, PassOn], Awaitable[web.Response]]
"""Answers a call, "METHOD object", in the gateway's place; most do with its own answer."""


async def undisturbed(call: str, pass_on: PassOn) -> web.Response:
    """Pass everything on."""
    return await pass_on()


class GatewayTap:
    """A reverse proxy before the gateway's enclave-facing socket, for one enclave."""

    def __init__(
        self,
        trace: EnclaveTrace,
        socket: Path,
        target: Path,
        stack: AsyncExitStack,
        disturb: Disturb = undisturbed,
    ) -> None:
        """`disturb` is asked about every call, and may answer it itself."""
        self._socket = socket
        self._trace = trace
        self._target = target
        self._stack = stack
        self._disturb = disturb
        self._taps: dict[str, TlsTap] = {}

    async def start(self) -> None:
        """Answer on the socket until the stack ends."""
        connector = aiohttp.UnixConnector(str(self._target), limit=100)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession("http://gateway", connector=connector, auto_decompress=False)
        )
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, self._socket).start()

    async def _handle(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/enclave/v1/").removeprefix("objects/")
        return await self._disturb(f"{request.method} {name}", partial(self._pass_on, request))

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        path = _IDENTIFIER.sub("ID", request.path_qs)
        place, clock = len(self._trace.calls), asyncio.get_running_loop().time
        self._trace.calls.append(Call(request.method, path, len(body), 0, 0, clock()))
        headers = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")}
        async with self._session.request(
            request.method, request.path_qs, data=body, headers=headers
        ) as response:
            answer = await response.read()
        if response.status < 500:
            # Else the enclave left while it waited for mail: there is no answer to see.
            seen = self._trace.calls[place]
            self._trace.calls[place] = replace(
                seen, status=response.status, received=len(answer), answered=clock()
            )
        _, asked, peer = request.path.partition("/peers/")
        if asked and response.status == 200:
            answer = await self._redirected(peer, answer)
        return web.Response(status=response.status, body=answer, content_type=response.content_type)

    async def _redirected(self, peer: str, answer: bytes) -> bytes:
        """A peer's announcement, with the address of a tap before it."""
        ready = json.loads(answer)
        address = ready["address"]
        if address not in self._taps:
            host, port = address.rsplit(":", 1)
            self._taps[address] = TlsTap(self._trace.connections[peer], host, int(port))
            await self._taps[address].start(self._stack)
        return json.dumps({**ready, "address": self._taps[address].address}).encode()
