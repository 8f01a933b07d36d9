"""A real parameter server on loopback, over real mutual TLS 1.3, as an enclave would run it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import hypothesis  # noqa: F401  (else its pytest plugin imports it at the very end, where CPython 3.11 fails)
import trustme
from aiohttp import web

from chiron.ps.client import ParameterClient
from chiron.ps.routes import exchange_routes
from chiron.ps.server import ParameterServer
from chiron.wire.exchange import ExchangeSpec

PLAN_BYTES = 1000
_CA = trustme.CA()


def _context(purpose: int, certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    certificate.configure_cert(context)
    _CA.configure_trust(context)
    return context


_SERVER_CONTEXT = _context(ssl.PROTOCOL_TLS_SERVER, _CA.issue_cert("127.0.0.1"))


def identify(request: web.Request) -> int:
    """The trainer's index, from the common name of its TLS certificate."""
    assert request.transport is not None
    subject = dict(field[0] for field in request.transport.get_extra_info("peercert")["subject"])
    return int(subject["commonName"].removeprefix("trainer-"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; pytest's own timeout or the caller's bounds it."""
    while not condition():  # noqa: ASYNC110  (what is waited for has no event)
        await asyncio.sleep(0.005)


@asynccontextmanager
async def serve(server: ParameterServer, port: int = 0) -> AsyncIterator[str]:
    """The URL at which `server` answers."""
    app = web.Application()
    app.add_routes(exchange_routes(server, identify))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=_SERVER_CONTEXT).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def session_of(trainer: int) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that presents the client certificate of `trainer`."""
    certificate = _CA.issue_cert(f"trainer-{trainer}.test", common_name=f"trainer-{trainer}")
    connector = aiohttp.TCPConnector(ssl=_context(ssl.PROTOCOL_TLS_CLIENT, certificate))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@asynccontextmanager
async def clients_of(
    url: str, spec: ExchangeSpec, patience_s: float = 60
) -> AsyncIterator[list[ParameterClient]]:
    """One client a trainer."""
    async with AsyncExitStack() as stack:
        yield [
            ParameterClient(
                await stack.enter_async_context(session_of(k)), url, spec, PLAN_BYTES, patience_s=patience_s
            )
            for k in range(spec.trainers)
        ]


@asynccontextmanager
async def job(spec: ExchangeSpec) -> AsyncIterator[tuple[ParameterServer, list[ParameterClient]]]:
    """A server and all its clients."""
    server = ParameterServer(spec, PLAN_BYTES)
    async with serve(server) as url, clients_of(url, spec) as clients:
        yield server, clients
