"""The real roles as `python -m chiron.runtime`, which a test can kill, stop, and start in another world.

The processes are not confined (tests/launchers holds that): what matters here is how they die.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from chiron.api.launchers.launcher import Order
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.tee import SoftwareTee, serve_quotes
from chiron.wire.launch import LAUNCH_VARIABLE, GatewayChannel, SoftwarePlatformSpec
from tests.support.tee import MEASUREMENT

ROOT = Path(__file__).resolve().parents[2]


class ProcessEnclave:
    """One child process, and the quoting service that is its alone."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, quoting: asyncio.Server) -> None:
        self.name = name
        self.door: str | None = None
        self._process = process
        self._quoting = quoting

    @property
    def ended(self) -> bool:
        """See `SimulatedEnclave.ended`."""
        return self._process.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """See `SimulatedEnclave.signal`."""
        os.kill(self._process.pid, number)

    async def wait(self) -> int:
        """See `Enclave.wait`."""
        code = await self._process.wait()
        self._quoting.close()
        return code if code >= 0 else 128 - code

    async def stop(self, grace_s: float) -> None:
        """See `Enclave.stop`."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), grace_s)
            except TimeoutError:
                self._process.kill()
        await self._process.wait()


class RolesAsProcesses:
    """See `tests.support.launcher.Backend`."""

    def __init__(self, tee: SoftwareTee, gateway_socket: Path, directory: Path) -> None:
        self.prefix: tuple[str, ...] = ()
        """Command that each enclave's is appended to."""
        self.environment: dict[str, str] = {}
        self.tee = tee
        self._gateway_socket = gateway_socket
        self._directory = directory
        self._started: list[ProcessEnclave] = []

    async def start(self, order: Order, name: str) -> ProcessEnclave:
        """See `Backend.start`."""
        number = len(self._started)
        socket = self._directory / f"q{number}"
        quoting = await serve_quotes(self.tee, socket, EnclaveIdentity(MEASUREMENT))
        channel = GatewayChannel(socket=str(self._gateway_socket), token=order.token)
        platform = SoftwarePlatformSpec(socket=str(socket))
        launch = order.launch_spec(channel, platform)
        with (self._directory / f"{number}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(*self.prefix, sys.executable, "-m", "chiron.runtime"),
                cwd=ROOT,
                env={
                    **os.environ,
                    **self.environment,
                    LAUNCH_VARIABLE: launch.model_dump_json(),
                    "OMP_NUM_THREADS": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        enclave = ProcessEnclave(name, process, quoting)
        self._started.append(enclave)
        return enclave

    async def close(self) -> None:
        """End every process that is left."""
        for enclave in self._started:
            await enclave.stop(0)

    def logs(self) -> str:
        """What the enclaves said last."""
        logs = sorted(self._directory.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)
