"""Roles as tasks that die at chosen calls to the gateway, as if by SIGKILL: they say nothing more to anybody.

Real processes are killed in `test_faults`; here the moment is exact, and a job takes a second.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from chiron import AsyncClient, JobRequest, OwnerStore
from chiron.api.gateway import Gateway
from chiron.api.keys import TenantRole
from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.server import running_gateway
from chiron.api.settings import Limits, Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.datasets import ArraySource, EncryptOptions, encrypt
from chiron.runtime.errors import EnclaveError
from chiron.runtime.roles import role_of
from chiron.runtime.roles.sealed_model import open_model
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import AttestationPolicy, Role
from chiron.wire.contract import BuilderManifest, CapabilityGrants, Task
from chiron.wire.jobs import Job
from chiron.wire.labels import MODEL
from chiron.wire.launch import GatewayChannel, LaunchSpec, SoftwarePlatformSpec
from chiron.wire.public_api import ImageInfo
from chiron.wire.reports import TrainingReport
from tests.traffic.recording import EnclaveTrace, GatewayTap
from tests.traffic.world import ENVELOPE, EXIT_REFUSED, MEASUREMENT, DirectPlatform, digits

KILLED = 137


@dataclass
class Death:
    """Enclaves die when one of them makes its `count`-th call of this kind, before or after it is heard."""

    of: tuple[str, ...]
    """Names; the first makes the call."""
    call: str
    """Beginning of "METHOD object"."""
    count: int
    heard: bool
    happened: bool = False


class DeadlyTap(GatewayTap):
    """Between one enclave and the gateway."""

    def __init__(self, launcher: "MortalLauncher", name: str, socket: Path, target: Path) -> None:
        super().__init__(EnclaveTrace(), socket, target, launcher.stack)
        self._launcher = launcher
        self._name = name

    async def _handle(self, request: web.Request) -> web.Response:
        call = f"{request.method} {request.path.removeprefix('/enclave/v1/').removeprefix('objects/')}"
        death = self._launcher.due(self._name, call)
        if death is None or death.heard:
            response = await super()._handle(request)
        else:
            response = web.Response(status=503)
        if death is not None:
            for name in death.of:
                self._launcher.latest[name].kill()
            death.happened = True
        return response


class MortalEnclave:
    """A role as a task."""

    def __init__(self, name: str, task: asyncio.Task[int]) -> None:
        self.name = name
        self.door: str | None = None
        self._task = task
        self._killed = False

    def kill(self) -> None:
        """As SIGKILL."""
        self._killed = True
        self._dying = asyncio.create_task(self._die())

    async def wait(self) -> int:
        """See `Enclave.wait`."""
        await asyncio.wait({self._task})
        if self._killed:
            return KILLED
        return 143 if self._task.cancelled() else self._task.result()

    async def stop(self, grace_s: float) -> None:
        """See `Enclave.stop`."""
        await self._die()

    async def _die(self) -> None:
        """A role that is cancelled hangs up on everybody and ends; before, its connections must be closed."""
        self._task.cancel()
        await asyncio.wait({self._task})


@dataclass
class MortalLauncher:
    """Runs roles as tasks, and kills them by `deaths`."""

    tee: SoftwareTee
    gateway_socket: Path
    directory: Path
    deaths: list[Death] = field(default_factory=list)
    measurement: str = MEASUREMENT.hex()
    images: tuple[ImageInfo, ...] = (ImageInfo(measurement=MEASUREMENT.hex()),)
    before: Callable[[LaunchOrder], None] = lambda _: None
    """Called at each launch, to cheat in between."""
    latest: dict[str, MortalEnclave] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    """Of the enclaves' errors."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _calls: dict[tuple[str, str], int] = field(default_factory=dict)
    _count: int = 0

    def due(self, name: str, call: str) -> Death | None:
        """The death that this call brings, if any."""
        for death in self.deaths:
            if not death.happened and death.of[0] == name and call.startswith(death.call):
                death.count -= 1
                if death.count == 0:
                    return death
        return None

    async def launch(self, order: LaunchOrder) -> MortalEnclave:
        """See `Launcher.launch`."""
        self.before(order)
        name = f"{order.role}-{order.index}"
        self._count += 1
        tap = DeadlyTap(self, name, self.directory / f"{self._count}", self.gateway_socket)
        await tap.start()
        launch = LaunchSpec(
            role=order.role,
            job=order.job,
            index=order.index,
            gateway=GatewayChannel(socket=str(tap.socket), token=order.token),
            platform=SoftwarePlatformSpec(socket="unused"),
            spec=order.spec,
        )
        self.latest[name] = MortalEnclave(name, asyncio.create_task(self._run(launch)))
        return self.latest[name]

    async def _run(self, launch: LaunchSpec) -> int:
        code = 0
        try:
            await role_of(launch)(launch, DirectPlatform(self.tee))
        except* EnclaveError as errors:
            self.codes += [getattr(error, "code", "?") for error in errors.exceptions]
            code = EXIT_REFUSED
        return code

    async def release(self, job: str) -> None:
        """See `Launcher.release`."""

    async def close(self) -> None:
        """See `Launcher.close`."""
        await self.stack.aclose()


@dataclass(frozen=True)
class Ended:
    """A job and what came of it, in the clear."""

    job: Job
    model: bytes
    reports: list[TrainingReport]
    objects: frozenset[tuple[str, int]] = frozenset()
    """Name and size of all that was ever stored: what a restart repeats is no other."""


@dataclass
class MortalWorld:
    """A gateway with mortal enclaves, and an owner with a dataset."""

    launcher: MortalLauncher
    owner: AsyncClient
    operator: AsyncClient
    gateway: Gateway
    dataset: str
    state: Path

    async def run(self, component: bytes, *deaths: Death, **request: Any) -> Ended:
        """A job from its creation to its end. Every death must have happened."""
        self.launcher.deaths = list(deaths)
        job = await self._begin(component, request)
        job = [seen async for seen in self.owner.watch(job)][-1]
        await self.gateway.supervisor.settled(job.spec.job)
        assert all(death.happened for death in deaths), (deaths, job.state, job.failure, self.launcher.codes)
        if job.failure is not None:
            return Ended(job, b"", [])
        (path,) = (self.state / "blobs" / "jobs" / job.spec.job / "model").iterdir()
        sealer = Sealer(DirectPlatform(self.launcher.tee), MODEL)
        _, model = open_model(job.spec, path.read_bytes(), sealer)
        seen = await self.owner.observations(job)
        objects = frozenset((item.name, item.size) for item in seen if item.kind == "object")
        return Ended(job, model, list(await self.owner.reports(job)), objects)

    async def _begin(self, component: bytes, request: dict[str, Any]) -> Job:
        manifest = BuilderManifest(
            name="mortal", version="1", tasks=frozenset({Task.CLASSIFICATION}), envelope=ENVELOPE
        )
        info = await self.operator.upload_builder(component, manifest.model_dump_json().encode())
        asked = {"trainers": 2, "exchanges": 6} | request
        job = await self.owner.create_job(
            JobRequest(dataset_id=self.dataset, builder_sha256=info.sha256, **asked)
        )
        verified = await self.owner.verify_job(job)
        await self.owner.send_grant(
            verified, capabilities=CapabilityGrants(granted=frozenset(info.capabilities))
        )
        return job


@asynccontextmanager
async def mortal_world(directory: Path) -> AsyncIterator[MortalWorld]:
    """Everything of it lives in `directory`, whose path must be short."""
    tee = SoftwareTee.open(directory / "tee", datetime.now(UTC))
    settings = Settings(state_dir=directory / "state", port=0, limits=Limits(restarts=20))
    (directory / "taps").mkdir()
    launcher = MortalLauncher(tee, settings.socket_path, directory / "taps")
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
            source = ArraySource(*digits(), task=Task.CLASSIFICATION)
            options = EncryptOptions(chunk_bytes=4096)
            bundle = await asyncio.to_thread(encrypt, source, directory / "bundle", store, options)
            dataset = await owner.upload_dataset(bundle.bundle)
            yield MortalWorld(launcher, owner, operator, running.gateway, dataset, directory / "state")


LEAD, OTHER, SERVER = f"{Role.TRAINER}-0", f"{Role.TRAINER}-1", f"{Role.PARAMETER_SERVER}-0"
