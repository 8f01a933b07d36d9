"""A real gateway whose enclaves are real processes that a test can kill, stop and cheat.

The processes are not confined (tests/launchers holds that): what matters here is how they die.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from chiron import AsyncClient, JobRequest, OwnerStore
from chiron.api.keys import TenantRole
from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.server import running_gateway
from chiron.api.settings import Settings, Timing
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.service import serve
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.datasets import ArraySource, Encrypted, EncryptOptions, encrypt
from chiron.wire.attestation import AttestationPolicy, Role
from chiron.wire.contract import BuilderManifest, CapabilityGrants, Task
from chiron.wire.jobs import Job, JobState
from chiron.wire.launch import LAUNCH_VARIABLE, GatewayChannel, LaunchSpec, SoftwarePlatformSpec
from chiron.wire.public_api import ImageInfo
from tests.traffic.builders import recipe
from tests.traffic.world import ENVELOPE, MEASUREMENT, digits

ROOT = Path(__file__).resolve().parents[2]
EXCHANGES = 24
PATIENCE_S = 180


class ProcessEnclave:
    """`python -m chiron.runtime` as a child process."""

    def __init__(
        self, order: LaunchOrder, process: asyncio.subprocess.Process, quoting: asyncio.Server
    ) -> None:
        self.name = f"{order.role}-{order.index}"
        self.door: str | None = None
        self.role = order.role
        self.index = order.index
        self.process = process
        self._quoting = quoting

    def send(self, number: signal.Signals) -> None:
        """Signal it, as the host may."""
        os.kill(self.process.pid, number)

    async def wait(self) -> int:
        """See `Enclave.wait`."""
        code = await self.process.wait()
        self._quoting.close()
        return code if code >= 0 else 128 - code

    async def stop(self, grace_s: float) -> None:
        """See `Enclave.stop`."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), grace_s)
            except TimeoutError:
                self.process.kill()
        await self.process.wait()


class ProcessLauncher:
    """Starts roles as plain processes. `before` is called with each order, to cheat in between."""

    def __init__(self, tee: SoftwareTee, gateway_socket: Path, directory: Path) -> None:
        self.measurement = MEASUREMENT.hex()
        self.images: tuple[ImageInfo, ...] = (ImageInfo(measurement=self.measurement),)
        self.enclaves: list[ProcessEnclave] = []
        self.before: Callable[[LaunchOrder], None] = lambda _: None
        self.prefix: tuple[str, ...] = ()
        """Command that each enclave's is appended to."""
        self.environment: dict[str, str] = {}
        self._tee = tee
        self._gateway_socket = gateway_socket
        self._directory = directory

    async def launch(self, order: LaunchOrder) -> ProcessEnclave:
        """See `Launcher.launch`."""
        self.before(order)
        number = len(self.enclaves)
        socket = self._directory / f"q{number}"
        quoting = await serve(self._tee, socket, EnclaveIdentity(MEASUREMENT))
        launch = LaunchSpec(
            role=order.role,
            job=order.job,
            index=order.index,
            gateway=GatewayChannel(socket=str(self._gateway_socket), token=order.token),
            platform=SoftwarePlatformSpec(socket=str(socket)),
            spec=order.spec,
        )
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
        enclave = ProcessEnclave(order, process, quoting)
        self.enclaves.append(enclave)
        return enclave

    def latest(self, role: Role, index: int = 0) -> ProcessEnclave:
        """The one launched last in this place."""
        return [one for one in self.enclaves if (one.role, one.index) == (role, index)][-1]

    async def release(self, job: str) -> None:
        """See `Launcher.release`."""

    async def close(self) -> None:
        """See `Launcher.close`."""
        for enclave in self.enclaves:
            await enclave.stop(0)


@dataclass
class FaultyHost:
    """One gateway, its launcher, and an owner with an uploaded dataset and builder."""

    launcher: ProcessLauncher
    owner: AsyncClient
    dataset: Encrypted
    builder: str
    state: Path

    async def begin(self, **changes: object) -> Job:
        """A job that has its grant."""
        request = {
            "dataset_id": self.dataset.bundle.manifest.dataset_id,
            "builder_sha256": self.builder,
            "trainers": 2,
            "exchanges": EXCHANGES,
        }
        job = await self.owner.create_job(JobRequest.model_validate(request | changes))
        verified = await self.owner.verify_job(job)
        info = await self.owner.builder(self.builder)
        await self.owner.send_grant(
            verified, capabilities=CapabilityGrants(granted=frozenset(info.capabilities))
        )
        return job

    async def reach(self, job: Job, exchanges: int) -> None:
        """Wait until the job has made that many exchanges; fail if it ends before."""
        async with asyncio.timeout(PATIENCE_S):
            async for seen in self.owner.watch(job):
                assert seen.state not in (JobState.FAILED, JobState.CANCELLED), self.logs()
                if seen.exchanges_done >= exchanges:
                    return
        raise AssertionError("the job ended before")

    async def ended(self, job: Job) -> Job:
        """The job at its end, whatever that is."""
        async with asyncio.timeout(PATIENCE_S):
            async for seen in self.owner.watch(job):
                latest = seen
        return latest

    def objects(self, job: Job, name: str) -> list[Path]:
        """The files in the operator's storage that hold an object of the job."""
        return sorted((self.state / "blobs" / "jobs" / job.spec.job / name).glob("*"))

    def logs(self) -> str:
        """What the enclaves said last."""
        logs = sorted(self.state.parent.joinpath("run").glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)


@asynccontextmanager
async def faulty_host(
    directory: Path, component: bytes, timing: Timing | None = None
) -> AsyncIterator[FaultyHost]:
    """Everything of it lives in `directory`, whose path must be short."""
    from datetime import UTC, datetime

    tee = SoftwareTee.open(directory / "tee", datetime.now(UTC))
    settings = Settings(state_dir=directory / "state", port=0, timing=timing or Timing(enclave_stop_s=1))
    (directory / "run").mkdir()
    launcher = ProcessLauncher(tee, settings.socket_path, directory / "run")
    async with running_gateway(settings, launcher) as running:
        create = running.gateway.keys.create
        policy = AttestationPolicy(software_root=tee.root_der, measurements=frozenset({launcher.measurement}))
        store = OwnerStore(directory / "owner")
        async with (
            AsyncClient(
                running.url, await create("owner", TenantRole.OWNER), policy=policy, store=store
            ) as owner,
            AsyncClient(running.url, await create("op", TenantRole.OPERATOR)) as operator,
        ):
            manifest = BuilderManifest(
                name="faults", version="1", tasks=frozenset({Task.CLASSIFICATION}), envelope=ENVELOPE
            )
            info = await operator.upload_builder(component, manifest.model_dump_json().encode())
            x, y = digits()
            dataset = await asyncio.to_thread(
                encrypt,
                ArraySource(x, y, task=Task.CLASSIFICATION),
                directory / "bundle",
                store,
                EncryptOptions(chunk_bytes=4096),
            )
            await owner.upload_dataset(dataset.bundle)
            yield FaultyHost(launcher, owner, dataset, info.sha256, directory / "state")


__all__ = ["EXCHANGES", "FaultyHost", "ProcessLauncher", "faulty_host", "recipe"]
