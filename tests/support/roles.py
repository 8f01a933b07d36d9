"""The real roles as tasks of this process, over real sockets, with all that they say recorded.

What confines their processes is tested elsewhere and would add nothing to what travels. Each role speaks
through taps of its own, so that a test can end enclaves at an exact call to the gateway.
"""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from chiron.api.launchers.launcher import Order
from chiron.api.software_tee.tee import SoftwareTee
from chiron.runtime.__main__ import EXIT_REFUSED
from chiron.runtime.errors import EnclaveError
from chiron.runtime.roles import role_of
from chiron.wire.launch import GatewayChannel, Launch, SoftwarePlatformSpec
from tests.support.launcher import TaskEnclave
from tests.support.taps import EnclaveTrace, GatewayTap, PassOn
from tests.support.tee import DirectPlatform

_LOG = logging.getLogger("chiron.runtime")
_CURRENT: ContextVar[EnclaveTrace | None] = ContextVar("current", default=None)


@dataclass
class Death:
    """Enclaves die, as if by SIGKILL, when one of them makes its `count`-th call of this kind."""

    of: tuple[str, ...]
    """Names; the first makes the call."""
    call: str
    """Beginning of "METHOD object"."""
    count: int
    heard: bool
    """Whether the gateway still hears the call."""
    happened: bool = False

    def due(self, name: str, call: str) -> bool:
        """Whether this call brings it."""
        if self.happened or self.of[0] != name or not call.startswith(self.call):
            return False
        self.count -= 1
        return self.count == 0


class RolesInProcess:
    """See `tests.support.launcher.Backend`."""

    def __init__(self, tee: SoftwareTee, gateway_socket: Path, directory: Path) -> None:
        """`directory` is for the taps' sockets; its path must be short."""
        self.tee = tee
        self.traces: dict[str, EnclaveTrace] = {}
        """By enclave: what the host saw of the latest in each place."""
        self.codes: list[str] = []
        """Of the errors that enclaves ended with."""
        self.deaths: list[Death] = []
        self._gateway_socket = gateway_socket
        self._directory = directory
        self._stack = AsyncExitStack()
        self._latest: dict[str, TaskEnclave] = {}
        self._count = 0

    async def start(self, order: Order, name: str) -> TaskEnclave:
        """See `Backend.start`."""
        trace = self.traces[name] = EnclaveTrace()
        self._count += 1
        socket = self._directory / f"{self._count}"
        tap = GatewayTap(trace, socket, self._gateway_socket, self._stack, partial(self._deadly, name))
        await tap.start()
        channel = GatewayChannel(socket=str(socket), token=order.token)
        launch = order.launch_spec(channel, SoftwarePlatformSpec(socket="unused"))
        task = asyncio.create_task(self._run(launch, trace))
        enclave = self._latest[name] = TaskEnclave(name, task)
        task.add_done_callback(lambda _: setattr(trace, "exit_code", enclave.exit_code()))
        return enclave

    async def _run(self, launch: Launch, trace: EnclaveTrace) -> int:
        _CURRENT.set(trace)
        code = 0
        try:
            await role_of(launch)(DirectPlatform(self.tee))
        except* EnclaveError as errors:
            codes = [getattr(error, "code", "?") for error in errors.exceptions]
            _LOG.error("ended: %s", codes)
            self.codes += codes
            code = EXIT_REFUSED
        return code

    async def _deadly(self, name: str, call: str, pass_on: PassOn) -> web.Response:
        """Pass a call on, and bring the death that is due with it, if any."""
        death = next((death for death in self.deaths if death.due(name, call)), None)
        if death is None:
            return await pass_on()
        response = await pass_on() if death.heard else web.Response(status=503)
        for victim in death.of:
            self._latest[victim].signal(signal.SIGKILL)
        death.happened = True
        return response

    async def close(self) -> None:
        """Close all taps."""
        await self._stack.aclose()


class _ByEnclave(logging.Handler):
    """Gives what the roles log, which the host reads, to the trace of the enclave that logged it."""

    def emit(self, record: logging.LogRecord) -> None:
        trace = _CURRENT.get()
        if trace is not None and record.levelno >= logging.INFO:
            trace.log_lines.append(f"{record.levelname} {record.name} {record.getMessage()}")


@contextmanager
def logs_recorded() -> Iterator[None]:
    """While it lasts, traces hold what their enclaves log."""
    handler = _ByEnclave()
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
