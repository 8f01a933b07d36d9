"""The gateway on its sockets, from start to graceful stop."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from chiron.api.applications import enclave_application, metrics_application, public_application
from chiron.api.gateway import Gateway
from chiron.api.keys import FirstKeys
from chiron.api.launchers.launcher import Launcher
from chiron.api.settings import Settings
from chiron.api.storage.database import exclusive
from chiron.wire.connections import DoorLimits
from chiron.wire.doors import open_door

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
    metrics_url: str | None
    """The address of `/metrics`, if the settings ask for it."""
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
        opened = _Doors(settings, stack)
        await opened.socket(enclave_application(gateway))
        enclave_url = metrics_url = None
        if settings.enclave_host is not None:
            at = settings.enclave_host, settings.enclave_port
            enclave_url = await opened.door(enclave_application(gateway), *at)
        if settings.metrics_host is not None:
            at = settings.metrics_host, settings.metrics_port
            metrics_url = await opened.door(metrics_application(gateway), *at)
        url = await opened.door(public_application(gateway), settings.host, settings.port)
        stack.callback(gateway.stopping.set)
        # Enclaves go first, while both APIs still answer: whoever follows or asks one is told of its end.
        stack.push_async_callback(gateway.stop_enclaves)
        await gateway.resume()
        _LOG.info("gateway ready", extra={"url": url, "measurement": launcher.measurement})
        yield RunningGateway(gateway, url, settings.socket_path, enclave_url, metrics_url, first_keys)
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


class _Doors:
    """Serves applications until `stack` unwinds."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack

    async def socket(self, app: web.Application) -> None:
        """At the enclaves' socket, which is for this user only."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=self._settings.timing.shutdown_s)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        socket = _prepared_socket(self._settings.socket_path)
        await web.UnixSite(runner, socket).start()
        self._stack.callback(socket.unlink, missing_ok=True)
        socket.chmod(0o600)

    async def door(self, app: web.Application, host: str, port: int) -> str:
        """At an address that anybody may knock at; its URL."""
        limits, timing = self._settings.limits, self._settings.timing
        bounds = DoorLimits(
            connections=limits.connections,
            connections_per_address=limits.connections_per_address,
            header_s=timing.header_s,
            idle_s=timing.idle_s,
            proxies=self._settings.trusted_proxies,
        )
        door = await self._stack.enter_async_context(
            open_door(app, host, port, limits=bounds, shutdown_s=timing.shutdown_s)
        )
        at, opened = door.address
        return f"http://[{at}]:{opened}" if ":" in at else f"http://{at}:{opened}"


def _prepared_socket(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_socket():
        # Left by a process that was killed; ours alone, as its directory is.
        path.unlink()
    return path
