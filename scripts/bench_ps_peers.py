"""The processes that scripts/bench_ps.py times: a parameter server or a TLS echo, and their clients.

Each is started as `python bench_ps_peers.py ROLE JSON` and speaks to its parent in JSON lines: it prints
{"ready": …}, waits for a line on stdin, does its rounds, and prints what it measured.
"""

import asyncio
import json
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import aiohttp
import numpy as np
from aiohttp import web

from chiron.ps.codec import Layout
from chiron.ps.routes import exchange_routes
from chiron.ps.sharding import ShardedClient, shard_server
from chiron.ps.streams import PIECE_BYTES, keep_freed_pieces
from chiron.ps.vectors import as_bytes
from chiron.wire.exchange import ExchangeSpec

PLAN_BYTES = 65_536
SUMS = 64


def context(purpose: int, directory: Path, name: str) -> ssl.SSLContext:
    """TLS 1.3 with certificates on both sides, as between enclaves."""
    made = ssl.SSLContext(purpose)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(directory / "ca.pem")
    made.load_cert_chain(directory / f"{name}.pem")
    return made


def status_mib(field: str) -> float:
    """A memory field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


class CallbackTimer:
    """Times every callback of the event loop: how long is nothing else served?"""

    def __init__(self) -> None:
        self.longest_s = 0.0
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began = time.perf_counter()
            run(handle)
            self.longest_s = max(self.longest_s, time.perf_counter() - began)

        asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]


def expect(holds: bool, what: str) -> None:
    """A benchmark of the wrong thing is none."""
    if not holds:
        raise RuntimeError(f"the peer did not return {what}")


async def line_from_parent() -> str:
    """One line of stdin, without blocking the loop."""
    return await asyncio.to_thread(sys.stdin.readline)


def tell(**facts: Any) -> None:
    """One JSON line to the parent."""
    print(json.dumps(facts), flush=True)


async def serve_exchange(options: dict[str, Any]) -> None:
    """The parameter server, as the enclave runs it."""
    keep_freed_pieces()
    timer = CallbackTimer()
    spec = ExchangeSpec.model_validate(options["spec"])
    idle = status_mib("VmRSS")
    server = shard_server(spec, PLAN_BYTES, options["shard"], spec.shards, sums=SUMS)

    def identify(request: web.Request) -> int:
        subject = dict(
            field[0]
            for field in cast("asyncio.Transport", request.transport).get_extra_info("peercert")["subject"]
        )
        return int(subject["commonName"].removeprefix("peer-"))

    app = web.Application()
    app.add_routes(exchange_routes(server, identify))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tls = context(ssl.PROTOCOL_TLS_SERVER, Path(options["directory"]), "server")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    tell(ready=runner.addresses[0][1])
    await line_from_parent()
    timer.longest_s = 0.0
    busy = time.process_time()
    await line_from_parent()
    busy = time.process_time() - busy
    tell(
        cpu_seconds=busy, idle_mib=idle, peak_mib=status_mib("VmHWM"), loop_blocked_ms=timer.longest_s * 1000
    )
    await runner.cleanup()


async def exchange(options: dict[str, Any]) -> None:
    """One trainer: a warm-up exchange, then the timed ones."""
    spec = ExchangeSpec.model_validate(options["spec"])
    index = options["index"]
    tls = context(ssl.PROTOCOL_TLS_CLIENT, Path(options["directory"]), f"client{index}")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        urls = [f"https://127.0.0.1:{port}" for port in options["ports"]]
        client = ShardedClient([session] * len(urls), urls, spec, PLAN_BYTES, sums=SUMS)
        vector = np.random.default_rng(index).normal(size=spec.parameters).astype(np.float32)
        sums = np.ones(SUMS)
        if index == 0:
            await client.publish(0, b"", vector)
        await client.start(0)
        await client.exchange(0, vector, sums)
        tell(ready=index)
        await line_from_parent()
        began, busy = time.perf_counter(), time.process_time()
        for number in range(1, 1 + options["rounds"]):
            merged = await client.exchange(number, vector, sums)
            expect(bool(merged.sums[0] == spec.trainers), "the sums of all trainers")
        took, busy = time.perf_counter() - began, time.process_time() - busy
        tell(seconds=took, cpu_seconds=busy, peak_mib=status_mib("VmHWM"))


class _Echo(asyncio.Protocol):
    """Writes back what it reads, and reads no faster than the peer takes it."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


class _Caller(asyncio.Protocol):
    """Sends a frame in pieces and reads as many bytes back into memory of its own."""

    _transport: asyncio.Transport

    def __init__(self, frame: memoryview, back: memoryview) -> None:
        self._frame, self._back = frame, back
        self._received = len(back)
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._done = asyncio.Event()

    async def call(self) -> None:
        """One round."""
        self._received = 0
        self._done.clear()
        for start in range(0, len(self._frame), PIECE_BYTES):
            self._transport.write(self._frame[start : start + PIECE_BYTES])
            await asyncio.sleep(0)
            await self._may_write.wait()
        await self._done.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._back[self._received : self._received + len(data)] = data
        self._received += len(data)
        if self._received == len(self._back):
            self._done.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()


async def serve_echo(options: dict[str, Any]) -> None:
    """The limit: what comes goes back, through an asyncio protocol and nothing else."""

    tls = context(ssl.PROTOCOL_TLS_SERVER, Path(options["directory"]), "server")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Echo, "127.0.0.1", 0, ssl=tls)
    tell(ready=server.sockets[0].getsockname()[1])
    await line_from_parent()
    await line_from_parent()
    tell(peak_mib=status_mib("VmHWM"))
    server.close()


async def echo(options: dict[str, Any]) -> None:
    """Send as many bytes as a PUSH frame has, while reading as many back, into memory of their own."""
    spec = ExchangeSpec.model_validate(options["spec"])
    frame = np.random.default_rng(0).integers(0, 256, Layout.of(spec, PLAN_BYTES, SUMS).push_bytes, np.uint8)
    back = np.zeros_like(frame)
    tls = context(ssl.PROTOCOL_TLS_CLIENT, Path(options["directory"]), f"client{options['index']}")
    loop = asyncio.get_running_loop()
    transport, caller = await loop.create_connection(
        lambda: _Caller(as_bytes(frame), as_bytes(back)), "127.0.0.1", options["ports"][0], ssl=tls
    )
    await caller.call()
    expect(bool((back == frame).all()), "the bytes that were sent")
    tell(ready=options["index"])
    await line_from_parent()
    began = time.perf_counter()
    for _ in range(options["rounds"]):
        await caller.call()
    tell(seconds=time.perf_counter() - began)
    transport.close()


ROLES = {"serve-exchange": serve_exchange, "exchange": exchange, "serve-echo": serve_echo, "echo": echo}

if __name__ == "__main__":
    threading.stack_size(1 << 20)
    asyncio.run(ROLES[sys.argv[1]](json.loads(sys.argv[2])))
