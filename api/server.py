"""The gateway on its sockets, from start to graceful stop."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from chiron.api.applications import enclave_application, public_application
from chiron.api.gateway import Gateway
from chiron.api.keys import FirstKeys
from chiron.api.launchers.launcher import Launcher
from chiron.api.settings import Settings
from chiron.api.storage.database import exclusive

_LOG = logging.getLogger(__name__)
LauncherFactory = Callable[[Settings], Awaitable[Launcher]]


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers."""

    gateway: Gateway
    url: str
    """The public API's address."""
    enclave_socket: Path
    enclave_url: str | None
    """The enclave-facing API's address over TCP, if the settings ask for it."""
    first_keys: FirstKeys | None
    """Keys to be shown once, at the very first start only."""


@asynccontextmanager
async def running_gateway(settings: Settings, launcher: Launcher) -> AsyncIterator[RunningGateway]:
    """A gateway on its sockets; at the end of the block its enclaves are stopped and its storage closed.

    Raises:
        StorageError: the database cannot be opened or is of another version, or another gateway runs there.
        OSError: an address is taken.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(launcher.close)
        stack.enter_context(exclusive(settings.state_dir))
        gateway, first_keys = await Gateway.open(settings, launcher)
        stack.push_async_callback(gateway.close)
        enclave_runner = await _runner(enclave_application(gateway), settings, stack)
        socket = _prepared_socket(settings.socket_path)
        await web.UnixSite(enclave_runner, socket).start()
        stack.callback(socket.unlink, missing_ok=True)
        socket.chmod(0o600)
        enclave_url = None
        if settings.enclave_host is not None:
            site = web.TCPSite(enclave_runner, settings.enclave_host, settings.enclave_port)
            await site.start()
            enclave_url = _url(enclave_runner)
        runner = await _runner(public_application(gateway), settings, stack)
        await web.TCPSite(runner, settings.host, settings.port).start()
        stack.callback(gateway.stopping.set)
        # Enclaves go first, while both APIs still answer: whoever follows or asks one is told of its end.
        stack.push_async_callback(gateway.stop_enclaves)
        await gateway.resume()
        _LOG.info("gateway ready", extra={"url": _url(runner), "measurement": launcher.measurement})
        yield RunningGateway(gateway, _url(runner), socket, enclave_url, first_keys)
        _LOG.info("gateway stopping")


async def serve(
    settings: Settings,
    launcher_factory: LauncherFactory,
    *,
    ready: Callable[[RunningGateway], None] = lambda _: None,
) -> None:
    """Run a gateway until SIGTERM or SIGINT, then stop it and its enclaves.

    `ready` is called once it answers, with its addresses and, at the first start, its first keys.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running_gateway(settings, await launcher_factory(settings)) as running:
            ready(running)
            await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _runner(app: web.Application, settings: Settings, stack: AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=settings.timing.shutdown_s)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _prepared_socket(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_socket():
        # Left by a process that was killed; ours alone, as its directory is.
        path.unlink()
    return path


def _url(runner: web.AppRunner) -> str:
    host, port = next(address for address in runner.addresses if not isinstance(address, str))[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
