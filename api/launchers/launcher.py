"""What every launcher does: start one role of one job as a process, keep its output, and tell of its end."""

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from chiron.wire.attestation import Role
from chiron.wire.jobs import JobSpec
from chiron.wire.launch import (
    GatewayChannel,
    LaunchSpec,
    MachineLaunch,
    SgxPlatformSpec,
    SoftwarePlatformSpec,
)
from chiron.wire.public_api import ImageInfo

MAX_LOG_BYTES = 2**20
MAX_LOGS = 500
"""Files kept; the oldest go first."""
_PIECE_BYTES = 16 * 2**10
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_CUT = b"\n(cut here: an enclave's log is bounded)\n"


@dataclass(frozen=True)
class LaunchOrder:
    """Start this role of this job; `token` is what the enclave shows to the gateway."""

    role: Role
    job: str
    index: int
    spec: JobSpec
    token: str
    measurement: str | None = None
    """The image to launch, one of the launcher's `images`; None is the current one."""
    taking: bool = False
    """True for a predictor that begins without a model, and waits for one from older code."""
    at_a_door: bool = False
    """True for a predictor that owners may reach directly, where the launcher has addresses for that."""
    machines: tuple[str, ...] = ()
    """Keys (SHA-256) of the machines that owners may have their models kept for."""

    def launch_spec(
        self,
        gateway: GatewayChannel,
        platform: SoftwarePlatformSpec | SgxPlatformSpec,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> LaunchSpec:
        """What the enclave is told; it listens at `host` and `port`."""
        return LaunchSpec(
            role=self.role,
            job=self.job,
            index=self.index,
            gateway=gateway,
            platform=platform,
            listen_host=host,
            listen_port=port,
            taking=self.taking or None,
            machines=self.machines or None,
            spec=self.spec,
        )


@dataclass(frozen=True)
class MachineOrder:
    """Start the current image once to tell this machine's key; `job` is a name that no job has."""

    job: str
    nonce: bytes
    token: str
    role: Role = Role.MACHINE
    index: int = 0
    measurement: None = None
    at_a_door: bool = False

    def launch_spec(
        self,
        gateway: GatewayChannel,
        platform: SoftwarePlatformSpec | SgxPlatformSpec,
        host: str = "",
        port: int = 0,
    ) -> MachineLaunch:
        """What the enclave is told; it listens nowhere."""
        return MachineLaunch(nonce=self.nonce, gateway=gateway, platform=platform)


Order: TypeAlias = LaunchOrder | MachineOrder


class Enclave(Protocol):
    """One launched enclave."""

    name: str
    door: str | None
    """host:port at which owners reach it directly."""

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and end it after `grace_s` seconds."""
        ...


class Launcher(Protocol):
    """Starts enclaves of one image, and predictors of older ones too."""

    measurement: str
    """MRENCLAVE of the current image, lowercase hex."""
    images: tuple[ImageInfo, ...]
    """All that it can launch, the current one first."""

    async def launch(self, order: Order) -> Enclave:
        """Start an enclave; if this raises, nothing of it is left."""
        ...

    async def release(self, job: str) -> None:
        """Free what a job's enclaves shared; all of them have ended."""
        ...

    async def close(self) -> None:
        """End everything that is left."""
        ...


async def keep_output(stream: asyncio.StreamReader, path: Path) -> None:
    """Read `stream` to its end; its first `MAX_LOG_BYTES` go into `path`, which only we can read.

    The rest is read and dropped, as a full pipe would stop the enclave; all of it where the disk is full.
    """
    room = MAX_LOG_BYTES
    with suppress(OSError), os.fdopen(os.open(path, _NEW_FILE, 0o600), "wb", buffering=0) as file:
        while piece := await stream.read(_PIECE_BYTES):
            file.write(piece[:room])
            room -= len(piece)
            if room <= 0:
                file.write(_CUT)
                break
    while await stream.read(_PIECE_BYTES):
        pass


def prune_logs(folder: Path) -> None:
    """Remove the oldest logs, so that one more can be written."""
    logs = sorted(folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
    for log in logs[: max(0, len(logs) - MAX_LOGS + 1)]:
        log.unlink(missing_ok=True)


class EnclaveProcess(ABC):
    """The part of `chiron.api.launchers.launcher.Enclave` that is the same for all."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.door: str | None = None
        self._process = process
        self._ended = asyncio.create_task(self._live(log))

    def when_ended(self, call: Callable[[Self], None]) -> None:
        """Have `call` called once it has ended."""
        self._ended.add_done_callback(lambda _: call(self))

    async def wait(self) -> int:
        """Its exit code, once it has ended; 128 + the signal's number if a signal ended it."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and end it after `grace_s` seconds."""
        if grace_s > 0:
            self._signal(signal.SIGTERM)
            await asyncio.wait({self._ended}, timeout=grace_s)
        self._signal(signal.SIGKILL)
        await asyncio.wait({self._ended})

    @abstractmethod
    def _signal(self, number: signal.Signals) -> None:
        """Send it, if the enclave still runs."""

    @abstractmethod
    async def _clean_up(self) -> None:
        """Free what lived as long as the process."""

    async def _live(self, log: Path) -> int:
        try:
            if self._process.stdout is not None:
                await keep_output(self._process.stdout, log)
            code = await self._process.wait()
        finally:
            await self._clean_up()
        return code if code >= 0 else 128 - code
