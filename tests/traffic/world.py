"""A real gateway, real roles and a real owner in one process, with a host that notes all it can see.

The roles run as tasks over real sockets: what confines their processes (bubblewrap) is tested elsewhere and
would add nothing to what travels. The builder runs in its real sandbox process.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron import AsyncClient, JobRequest, OwnerStore
from chiron.api.keys import TenantRole
from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.server import running_gateway
from chiron.api.settings import Settings
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.datasets import ArraySource, EncryptOptions, encrypt
from chiron.runtime.attestation.platform import Quoted, SealingPolicy
from chiron.runtime.errors import EnclaveError
from chiron.runtime.roles import role_of
from chiron.wire.attestation import AttestationPolicy, Collateral
from chiron.wire.contract import BuilderManifest, CapabilityGrants, Envelope, Task
from chiron.wire.enclave_api import Observation
from chiron.wire.jobs import Job
from chiron.wire.launch import GatewayChannel, LaunchSpec, SoftwarePlatformSpec
from chiron.wire.public_api import ImageInfo
from chiron.wire.reports import Outcome
from tests.traffic.recording import EnclaveTrace, GatewayTap

MEASUREMENT = bytes(range(32))
ENVELOPE = Envelope(max_parameters=3000, max_graph_bytes=65_536)
_CURRENT: ContextVar[EnclaveTrace | None] = ContextVar("current", default=None)
EXIT_REFUSED = 3


class DirectPlatform:
    """The software TEE without its socket, which would be in our own event loop."""

    def __init__(self, tee: SoftwareTee) -> None:
        self._tee = tee
        self._identity = EnclaveIdentity(MEASUREMENT)

    def quote(self, report_data: bytes) -> Quoted:
        """See `Platform.quote`."""
        collateral = Collateral.model_validate(self._tee.collateral(datetime.now(UTC)))
        return Quoted(self._tee.quote(self._identity, report_data), collateral)

    def sealing_recipe(self) -> bytes:
        """See `Platform.sealing_recipe`."""
        return b""

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        """See `Platform.sealing_key`."""
        return self._tee.sealing_key(self._identity, policy, label)


class TaskEnclave:
    """A role as a task."""

    def __init__(self, name: str, task: asyncio.Task[int], trace: EnclaveTrace) -> None:
        self.name = name
        self.door: str | None = None
        self.trace = trace
        self._task = task

    async def wait(self) -> int:
        """See `Enclave.wait`."""
        await asyncio.wait({self._task})
        self.trace.exit_code = 143 if self._task.cancelled() else self._task.result()
        return self.trace.exit_code

    async def stop(self, grace_s: float) -> None:
        """See `Enclave.stop`."""
        self._task.cancel()
        await self.wait()


class RecordingLauncher:
    """Runs roles as tasks behind taps, and keeps the traces by the enclaves' names."""

    def __init__(self, tee: SoftwareTee, gateway_socket: Path, directory: Path) -> None:
        self.measurement = MEASUREMENT.hex()
        self.images: tuple[ImageInfo, ...] = (ImageInfo(measurement=self.measurement),)
        self.traces: dict[str, EnclaveTrace] = {}
        self._tee = tee
        self._gateway_socket = gateway_socket
        self._directory = directory
        self._stack = AsyncExitStack()
        self._count = 0

    async def launch(self, order: LaunchOrder) -> TaskEnclave:
        """See `Launcher.launch`."""
        name = f"{order.role}-{order.index}"
        trace = self.traces[name] = EnclaveTrace()
        self._count += 1
        tap = GatewayTap(trace, self._directory / f"{self._count}", self._gateway_socket, self._stack)
        await tap.start()
        launch = LaunchSpec(
            role=order.role,
            job=order.job,
            index=order.index,
            gateway=GatewayChannel(socket=str(tap.socket), token=order.token),
            platform=SoftwarePlatformSpec(socket="unused"),
            spec=order.spec,
        )
        return TaskEnclave(name, asyncio.create_task(self._run(launch, trace)), trace)

    async def _run(self, launch: LaunchSpec, trace: EnclaveTrace) -> int:
        _CURRENT.set(trace)
        code = 0
        try:
            await role_of(launch)(launch, DirectPlatform(self._tee))
        except* EnclaveError as errors:
            codes = [getattr(error, "code", "?") for error in errors.exceptions]
            logging.getLogger("chiron.runtime").log(logging.ERROR, "ended: %s", codes)
            code = EXIT_REFUSED
        return code

    async def release(self, job: str) -> None:
        """See `Launcher.release`."""

    async def close(self) -> None:
        """See `Launcher.close`."""
        await self._stack.aclose()


class _ByEnclave(logging.Handler):
    """Gives what the roles log, which the host reads, to the trace of the enclave that logged it."""

    def emit(self, record: logging.LogRecord) -> None:
        trace = _CURRENT.get()
        if trace is not None and record.levelno >= logging.INFO:
            trace.log_lines.append(f"{record.levelname} {record.name} {record.getMessage()}")


@dataclass
class View:
    """All that the host saw of one job, and what only the owner can tell."""

    enclaves: dict[str, EnclaveTrace]
    observations: list[Observation]
    files: dict[str, int]
    """Objects in storage by name, with their sizes."""
    job: Job
    outcome: Outcome


class Host:
    """The operator's side for one test, and an owner who uses it."""

    def __init__(
        self, launcher: RecordingLauncher, owner: AsyncClient, operator: AsyncClient, directory: Path
    ) -> None:
        self._launcher = launcher
        self._owner = owner
        self._operator = operator
        self._directory = directory

    async def run(self, x: NDArray[Any], y: NDArray[Any], component: bytes, **request: Any) -> View:
        """A job on these arrays with this builder, from encryption to outcome."""
        manifest = BuilderManifest(
            name="traffic", version="1", tasks=frozenset({Task.CLASSIFICATION}), envelope=ENVELOPE
        )
        info = await self._operator.upload_builder(component, manifest.model_dump_json().encode())
        store = self._owner.store
        bundle = await asyncio.to_thread(
            encrypt,
            ArraySource(x, y, task=Task.CLASSIFICATION),
            self._directory / "bundle",
            store,
            EncryptOptions(chunk_bytes=4096),
        )
        dataset = await self._owner.upload_dataset(bundle.bundle)
        job = await self._owner.create_job(
            JobRequest(dataset_id=dataset, builder_sha256=info.sha256, **request)
        )
        verified = await self._owner.verify_job(job)
        await self._owner.send_grant(
            verified, capabilities=CapabilityGrants(granted=frozenset(info.capabilities))
        )
        job = await self._owner.wait(job)
        await asyncio.sleep(0)
        blobs = self._directory / "state" / "blobs" / "jobs" / job.spec.job
        return View(
            enclaves=self._launcher.traces,
            observations=list(await self._owner.observations(job)),
            files={str(path.parent.name): path.stat().st_size for path in blobs.glob("*/*")},
            job=job,
            outcome=await self._owner.outcome(job),
        )


@asynccontextmanager
async def host_in(directory: Path, tee: SoftwareTee) -> AsyncIterator[Host]:
    """A fresh gateway whose enclaves are watched. `directory` must have a short path."""
    settings = Settings(state_dir=directory / "state", port=0)
    (directory / "taps").mkdir()
    launcher = RecordingLauncher(tee, settings.socket_path, directory / "taps")
    handler = _ByEnclave()
    logging.getLogger("chiron.runtime").addHandler(handler)
    logging.getLogger("chiron.runtime").setLevel(logging.INFO)
    try:
        async with running_gateway(settings, launcher) as running:
            create = running.gateway.keys.create
            policy = AttestationPolicy(
                software_root=tee.root_der, measurements=frozenset({launcher.measurement})
            )
            async with (
                AsyncClient(
                    running.url,
                    await create("owner", TenantRole.OWNER),
                    policy=policy,
                    store=OwnerStore(directory / "owner"),
                ) as owner,
                AsyncClient(
                    running.url,
                    await create("op", TenantRole.OPERATOR),
                    store=OwnerStore(directory / "operator"),
                ) as operator,
            ):
                yield Host(launcher, owner, operator, directory)
    finally:
        logging.getLogger("chiron.runtime").removeHandler(handler)


def digits(rows: int = 300) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Some of scikit-learn's handwritten digits: x [rows, 8, 8], y [rows]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images[:rows].astype(np.uint8), data.target[:rows].astype(np.int64)
