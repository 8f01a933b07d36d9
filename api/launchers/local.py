"""The launcher that needs nothing else: enclaves as confined processes of this machine, on a software TEE.

The confinement (`chiron.api.launchers.bubblewrap`) keeps an enclave from the host. Nothing here keeps the
host from an enclave: that is what a TEE is for, and the software one protects nothing.
"""

import asyncio
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from chiron.api.errors import EnclaveNotStarted, LauncherError, TeeMissing
from chiron.api.launchers import enter
from chiron.api.launchers.bubblewrap import (
    GATEWAY_SOCKET,
    LAUNCH_FILE,
    QUOTING_SOCKET,
    Confinement,
    enclave_arguments,
    find_bubblewrap,
)
from chiron.api.launchers.launcher import Order, prune_logs
from chiron.api.launchers.local_enclave import LocalEnclave, read_process_id
from chiron.api.launchers.namespaces import INNER_PORT, Door, JobNamespaces
from chiron.api.settings import MAX_UNIX_SOCKET_PATH, Settings
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.tee import SoftwareTee, serve_quotes
from chiron.enclave_image.manifest import ROOT, ImageManifest, read_proof
from chiron.enclave_image.measurement import examine
from chiron.wire.launch import LAUNCH_VARIABLE, GatewayChannel, SoftwarePlatformSpec
from chiron.wire.public_api import ImageInfo

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalOptions:
    """What can be told to the local launcher."""

    image: Path
    """Image directory (`chiron image build`)."""
    tmp_bytes: int = 2**30
    """Memory that one enclave's /tmp may take."""
    previous_images: tuple[Path, ...] = ()
    """Images of code that models are still sealed to. Only predictors are launched from these."""
    direct_ports: range | None = None
    """Ports of the gateway's host at which owners reach predictors directly; empty is any; None is none."""


class LocalLauncher:
    """Starts enclaves of one image on this machine, and predictors of older ones."""

    def __init__(
        self,
        settings: Settings,
        options: LocalOptions,
        bwrap: Path,
        tee: SoftwareTee,
        images: dict[Path, ImageInfo],
    ) -> None:
        """`images` tells of each image's directory, the current one first."""
        self.images = tuple(images.values())
        self.measurement = self.images[0].measurement
        self.tee = tee
        self._directories = {info.measurement: path for path, info in reversed(images.items())}
        self._settings = settings
        self._options = options
        self._bwrap = bwrap
        self._numbers = itertools.count(1)
        self._namespaces: dict[str, asyncio.Task[JobNamespaces]] = {}
        self._enclaves: dict[str, set[LocalEnclave]] = {}
        self._sockets = settings.state_dir / "run"
        self._logs = settings.state_dir / "logs"

    @classmethod
    async def open(cls, settings: Settings, options: LocalOptions) -> Self:
        """A launcher that has shown that it can confine a process here.

        Raises:
            BubblewrapMissing, ConfinementUnavailable: no enclave could be started on this machine.
            LauncherError: the state directory's path is too long for sockets.
            ImageInvalid: there is no image where the options say that there is one.
            LogCorrupted: the proof beside one is none.
            TeeMissing: the secrets are gone that what is stored is sealed under.
        """
        longest = len(str(settings.state_dir / "run/12345678").encode())
        if longest > MAX_UNIX_SOCKET_PATH:
            raise LauncherError(f"state_dir is too long: sockets in it have paths of {longest} bytes")
        _private_folder(settings.state_dir)
        bwrap = find_bubblewrap()
        places = (options.image, *options.previous_images)
        images = {path: await asyncio.to_thread(_image_info, path) for path in places}
        tee = await asyncio.to_thread(_open_tee, settings)
        trial = await JobNamespaces.create(bwrap)
        trial.close()
        return cls(settings, options, bwrap, tee, images)

    async def launch(self, order: Order) -> LocalEnclave:
        """Start an enclave. What is quoted of it is the image's measurement at this moment.

        Raises:
            ConfinementUnavailable, EnclaveNotStarted, ImageInvalid: and nothing of it is left.
        """
        wanted = order.measurement or self.measurement
        if wanted not in self._directories:
            raise EnclaveNotStarted("there is no image of the measurement that was ordered")
        image = self._directories[wanted]
        manifest = await asyncio.to_thread(examine, image)
        if manifest.measurement != wanted:
            _LOG.warning("image changed", extra={"measurement": manifest.measurement, "job": order.job})
        namespaces = await self._job_namespaces(order.job)
        number = next(self._numbers)
        name = f"{order.role}-{order.index}-{number}"
        socket = _private_folder(self._sockets) / str(number)
        # An earlier process may have left one, which leads nowhere.
        socket.unlink(missing_ok=True)
        identity = EnclaveIdentity(measurement=bytes.fromhex(manifest.measurement))
        quoting = await serve_quotes(self.tee, socket, identity)
        try:
            socket.chmod(0o600)
            process, process_id = await self._start(order, image, manifest, namespaces, socket)
        except BaseException:
            quoting.close()
            socket.unlink(missing_ok=True)
            raise
        prune_logs(_private_folder(self._logs))
        log = self._logs / f"{order.job[:12]}-{name}.log"
        siblings = self._enclaves.setdefault(order.job, set())
        enclave = LocalEnclave(name, process, process_id, quoting, socket, log)
        siblings.add(enclave)
        enclave.when_ended(siblings.discard)
        if self._has_door(order):
            await self._open_door(enclave, namespaces)
        return enclave

    def _has_door(self, order: Order) -> bool:
        return order.at_a_door and self._options.direct_ports is not None

    async def _open_door(self, enclave: LocalEnclave, namespaces: JobNamespaces) -> None:
        try:
            door = await Door.open(namespaces, self._settings.host, self._options.direct_ports or range(0))
        except BaseException:
            await enclave.stop(0)
            raise
        enclave.door = door.address
        enclave.when_ended(lambda _: door.close())

    async def release(self, job: str) -> None:
        """Free the namespaces that the job's enclaves shared; all of them have ended."""
        self._enclaves.pop(job, None)
        task = self._namespaces.pop(job, None)
        if task is not None:
            # One that could not be made has been reported where it was needed.
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                task.result().close()

    async def close(self) -> None:
        """End every enclave that is left, and free what they held."""
        left = [enclave for enclaves in self._enclaves.values() for enclave in enclaves]
        await asyncio.gather(*(enclave.stop(0) for enclave in left))
        for job in list(self._namespaces):
            await self.release(job)
        shutil.rmtree(self._sockets, ignore_errors=True)

    async def _job_namespaces(self, job: str) -> JobNamespaces:
        """The job's, made once, even if several of its enclaves are launched at a time."""
        if job not in self._namespaces:
            make = JobNamespaces.create(self._bwrap)
            self._namespaces[job] = asyncio.create_task(make)
        task = self._namespaces[job]
        try:
            return await asyncio.shield(task)
        except Exception:
            self._namespaces.pop(job, None)
            raise

    async def _start(
        self,
        order: Order,
        image: Path,
        manifest: ImageManifest,
        namespaces: JobNamespaces,
        socket: Path,
    ) -> tuple[asyncio.subprocess.Process, int]:
        info, info_write = os.pipe()
        launch = order.launch_spec(
            GatewayChannel(socket=GATEWAY_SOCKET, token=order.token),
            SoftwarePlatformSpec(socket=QUOTING_SOCKET),
            port=INNER_PORT if self._has_door(order) else 0,
        )
        # Images of an earlier version are launched too, and refuse fields that they do not know.
        launch_fd = _in_memory(launch.model_dump_json(exclude_none=True).encode())
        try:
            confinement = Confinement(
                root=image / ROOT,
                gateway_socket=self._settings.socket_path,
                quoting_socket=socket,
                launch_fd=launch_fd,
                info_fd=info_write,
                tmp_bytes=self._options.tmp_bytes,
            )
            arguments = enclave_arguments(confinement, manifest.entry_point)
            process = await self._entered(namespaces, arguments, manifest, (launch_fd, info_write))
        except BaseException:
            os.close(info)
            raise
        finally:
            os.close(info_write)
            os.close(launch_fd)
        return process, await read_process_id(process, info)

    async def _entered(
        self,
        namespaces: JobNamespaces,
        arguments: Sequence[str],
        manifest: ImageManifest,
        descriptors: tuple[int, ...],
    ) -> asyncio.subprocess.Process:
        joined = (namespaces.user, namespaces.network)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", enter.__file__, str(os.getpid()), *map(str, joined)),
                *(str(self._bwrap), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(*joined, *descriptors),
                env={**manifest.environment, LAUNCH_VARIABLE: f"@{LAUNCH_FILE}"},
            )
        except OSError as error:
            raise EnclaveNotStarted("the enclave's process could not be started") from error


def _open_tee(settings: Settings) -> SoftwareTee:
    directory = settings.state_dir / "tee"
    if not directory.exists() and any((settings.blob_dir / "jobs").glob("*")):
        raise TeeMissing(
            f"{directory} is missing: models and checkpoints stored here are sealed under its secrets, and "
            "open with no others. Restore it from the backup. (An empty folder there begins with new "
            "secrets, and what is stored stays closed.)"
        )
    return SoftwareTee.open(directory, datetime.now(UTC))


def _image_info(directory: Path) -> ImageInfo:
    return ImageInfo(measurement=examine(directory).measurement, proof=read_proof(directory))


def _in_memory(content: bytes) -> int:
    """A descriptor of an anonymous file at its beginning: no argument, variable or file tells the token."""
    descriptor = os.memfd_create("launch")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _private_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
