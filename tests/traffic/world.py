"""A real gateway, real roles and a real owner in one process, with a host that notes all it can see.

The builder runs in its real sandbox process.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from chiron.api.settings import Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.errors import AnswerRefused
from chiron.wire.enclave_api import Observation
from chiron.wire.jobs import Job
from chiron.wire.reports import Outcome, TrainingReport
from tests.support.deployment import Deployment, create_and_grant, deployed, publish, upload
from tests.support.launcher import SimulatedLauncher
from tests.support.roles import RolesInProcess, logs_recorded
from tests.support.taps import EnclaveTrace


@dataclass
class View:
    """All that the host saw of one job, and what only the owner can tell."""

    enclaves: dict[str, EnclaveTrace]
    observations: list[Observation]
    files: dict[str, int]
    """Objects in storage by name, with their sizes."""
    job: Job
    outcome: Outcome
    reports: list[TrainingReport]


@dataclass
class Host(Deployment[RolesInProcess]):
    """The operator's side for one test, and an owner who uses it."""

    directory: Path

    async def run(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        component: bytes,
        queries: Sequence[NDArray[Any]] = (),
        **request: Any,
    ) -> View:
        """A job on these arrays with this builder, from encryption to outcome; then the queries."""
        builder = await publish(self.operator, component)
        dataset = (await upload(self.owner, (x, y), self.directory / "bundle")).bundle.manifest.dataset_id
        job = await create_and_grant(self.owner, builder.sha256, dataset, **request)
        job = await self.owner.wait(job)
        for rows in queries:
            # One that comes too late is refused, in an answer like any other.
            with suppress(AnswerRefused):
                await self.owner.predict(job, rows)
        await asyncio.sleep(0)
        return View(
            enclaves=self.launcher.backend.traces,
            observations=list(await self.owner.observations(job)),
            files={path.parent.name: path.stat().st_size for path in self.objects(job)},
            job=job,
            outcome=await self.owner.outcome(job),
            reports=await self.owner.reports(job),
        )


@asynccontextmanager
async def host_in(directory: Path, tee: SoftwareTee) -> AsyncIterator[Host]:
    """A fresh gateway whose enclaves are watched. `directory` must have a short path."""
    settings = Settings(state_dir=directory / "state", port=0)
    (directory / "taps").mkdir()
    launcher = SimulatedLauncher(RolesInProcess(tee, settings.socket_path, directory / "taps"))
    with logs_recorded():
        async with deployed(directory, settings, launcher, tee) as there:
            yield Host(**vars(there), directory=directory)
