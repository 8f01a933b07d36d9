"""The launcher for SGX machines: `occlum run` in a copy of a built instance for each enclave.

Never run on SGX hardware by us: it is tested against a double at the process boundary.

What it cannot promise as the local launcher does: Occlum's processes are told to end through their process
group, and if the gateway is killed they run until they miss it (two minutes), as nobody holds their lives.
"""

import asyncio
import itertools
import logging
import os
import re
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chiron.api.errors import EnclaveNotStarted, LauncherError
from chiron.api.launchers.launcher import EnclaveProcess, Order, prune_logs
from chiron.api.settings import Settings
from chiron.enclave_image.contents import ENTRY_POINT
from chiron.enclave_image.manifest import read_proof
from chiron.wire.launch import LAUNCH_VARIABLE, GatewayChannel, SgxPlatformSpec
from chiron.wire.public_api import ImageInfo

_LOG = logging.getLogger(__name__)
_MRENCLAVE = re.compile(r"[0-9a-f]{64}")
_PRINT_TIMEOUT_S = 60
MAX_VARIABLE_BYTES = 120 * 2**10
"""Linux takes 128 KiB a variable, with its name."""
_PASSED = ("PATH", "SGX_AESM_ADDR")
"""Environment variables that the host side of Occlum needs. None of them reaches the enclave,
whose Occlum.json takes the launch variable and nothing else."""


@dataclass(frozen=True)
class OcclumOptions:
    """What can be told to the Occlum launcher."""

    instance: Path
    """Directory that `occlum build` has made (docs/occlum.md)."""
    pccs_url: str = "http://127.0.0.1:8081"
    """Where enclaves fetch collateral for their quotes."""
    listen_host: str = "127.0.0.1"
    """Address of this machine at which a job's enclaves reach each other."""
    program: str = "occlum"
    previous_instances: tuple[Path, ...] = ()
    """Instances of code that models are still sealed to. Only predictors are launched from these."""
    direct_ports: range | None = None
    """Ports of `listen_host` at which owners reach predictors directly; None is none."""


class OcclumEnclave(EnclaveProcess):
    """One enclave under Occlum: the process group that `occlum run` started."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, copy: Path, log: Path) -> None:
        self._copy = copy
        super().__init__(name, process, log)

    def _signal(self, number: signal.Signals) -> None:
        # The group has its leader's number, which is not given to another before we have waited for it.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _clean_up(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._copy, ignore_errors=True)


class OcclumLauncher:
    """Starts enclaves of one Occlum instance on this machine, and predictors of older ones."""

    def __init__(
        self, settings: Settings, options: OcclumOptions, program: Path, images: dict[Path, ImageInfo]
    ) -> None:
        """`images` tells of each instance, the current one first."""
        self.images = tuple(images.values())
        self.measurement = self.images[0].measurement
        self._instances = {info.measurement: path for path, info in reversed(images.items())}
        self._ports_taken: set[int] = set()
        self._settings = settings
        self._options = options
        self._program = program
        self._numbers = itertools.count(1)
        self._copies = settings.state_dir / "occlum"
        self._logs = settings.state_dir / "logs"
        self._enclaves: set[OcclumEnclave] = set()

    @classmethod
    async def open(cls, settings: Settings, options: OcclumOptions) -> Self:
        """A launcher whose instance has told its MRENCLAVE.

        Raises:
            LauncherError: no Occlum, no built instance, or no address at which enclaves reach the gateway.
        """
        program = shutil.which(options.program)
        if program is None:
            raise LauncherError("the occlum program was not found; see docs/occlum.md")
        if settings.enclave_host is None or settings.enclave_port == 0:
            raise LauncherError("enclaves under Occlum reach the gateway over TCP: give address and port")
        if options.direct_ports is not None and not options.direct_ports:
            raise LauncherError("predictors under Occlum are reached at ports that are named")
        instances = (options.instance, *options.previous_instances)
        images = {
            path: ImageInfo(measurement=await _mrenclave(Path(program), path), proof=read_proof(path))
            for path in instances
        }
        return cls(settings, options, Path(program), images)

    async def launch(self, order: Order) -> OcclumEnclave:
        """Start an enclave in a copy of its instance.

        Raises:
            EnclaveNotStarted: the launch specification is too long, or the process did not start.
        """
        instance = self._instances.get(order.measurement or self.measurement)
        if instance is None:
            raise EnclaveNotStarted("there is no instance of the measurement that was ordered")
        port = self._door(order)
        try:
            enclave = await self._launched(order, instance, port)
        except BaseException:
            self._ports_taken.discard(port)
            raise
        if port:
            enclave.door = f"{_in_url(self._options.listen_host)}:{port}"
            enclave.when_ended(lambda _: self._ports_taken.discard(port))
        return enclave

    async def _launched(self, order: Order, instance: Path, port: int) -> OcclumEnclave:
        # Instances of an earlier version are launched too, and refuse fields that they do not know.
        address = _in_url(self._settings.enclave_host or "")
        launch = order.launch_spec(
            GatewayChannel(url=f"http://{address}:{self._settings.enclave_port}", token=order.token),
            SgxPlatformSpec(pccs_url=self._options.pccs_url),
            self._options.listen_host,
            port,
        ).model_dump_json(exclude_none=True)
        if len(launch.encode()) > MAX_VARIABLE_BYTES:
            raise EnclaveNotStarted(
                f"the spec has {len(launch)} bytes, a variable holds {MAX_VARIABLE_BYTES}: use larger chunks"
            )
        number = next(self._numbers)
        name = f"{order.role}-{order.index}-{number}"
        copy = self._copies / str(number)
        try:
            await asyncio.to_thread(_copy_instance, instance, copy)
            process = await self._started(copy, launch)
        except OSError as error:
            shutil.rmtree(copy, ignore_errors=True)
            raise EnclaveNotStarted("the Occlum instance could not be copied or started") from error
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        prune_logs(self._logs)
        enclave = OcclumEnclave(name, process, copy, self._logs / f"{order.job[:12]}-{name}.log")
        self._enclaves.add(enclave)
        enclave.when_ended(self._enclaves.discard)
        return enclave

    def _door(self, order: Order) -> int:
        """A port, taken now, at which owners are to reach it; 0 where they are not."""
        if not order.at_a_door or self._options.direct_ports is None:
            return 0
        for port in self._options.direct_ports:
            if port not in self._ports_taken:
                self._ports_taken.add(port)
                return port
        raise EnclaveNotStarted("every port for predictors' doors is taken")

    async def release(self, job: str) -> None:
        """Nothing to free: enclaves under Occlum share the machine's network and nothing of ours."""

    async def close(self) -> None:
        """End every enclave that is left, and remove their copies."""
        await asyncio.gather(*(enclave.stop(0) for enclave in list(self._enclaves)))
        shutil.rmtree(self._copies, ignore_errors=True)

    async def _started(self, copy: Path, launch: str) -> asyncio.subprocess.Process:
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *(self._program, "run", *ENTRY_POINT),
            cwd=copy,
            env={**passed, LAUNCH_VARIABLE: launch},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # `occlum` is a shell script around the enclave's process: they are ended together.
            start_new_session=True,
        )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _mrenclave(program: Path, instance: Path) -> str:
    """What the built instance measures, as Occlum's signing tool computes it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, "print", "mrenclave"),
            cwd=instance,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(_PRINT_TIMEOUT_S):
            printed, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        raise LauncherError(f"{instance} holds no built Occlum instance") from error
    found = _MRENCLAVE.findall(printed.decode(errors="replace").lower())
    if process.returncode != 0 or len(found) != 1:
        raise LauncherError(f"{instance} did not tell its MRENCLAVE: is it built?")
    return str(found[0])


def _copy_instance(instance: Path, copy: Path) -> None:
    """The built part is shared by hard links, as nobody writes to it; each has a writable part of its own."""
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o700)
    for item in sorted(instance.iterdir()):
        if item.name == "build":
            shutil.copytree(item, copy / item.name, symlinks=True, copy_function=_linked)
        elif item.is_dir():
            shutil.copytree(item, copy / item.name, symlinks=True)
        else:
            shutil.copy2(item, copy / item.name)


def _linked(source: str, target: str) -> str:
    """A hard link, or a copy where the state directory is on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
