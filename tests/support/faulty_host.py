"""A real gateway whose enclaves are real processes that a test can kill, stop and cheat."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiron.api.settings import Settings, Timing
from chiron.client.datasets import Encrypted
from chiron.wire.jobs import Job, JobState
from tests.support.datasets import digits
from tests.support.deployment import Deployment, create_and_grant, deployed, keyholding, publish, upload
from tests.support.launcher import SimulatedLauncher
from tests.support.processes import RolesAsProcesses
from tests.support.tee import open_tee

EXCHANGES = 24
PATIENCE_S = 180


@dataclass
class FaultyHost(Deployment[RolesAsProcesses]):
    """One gateway whose enclaves are processes, and an owner with an uploaded dataset and builder."""

    dataset: Encrypted
    builder: str

    async def begin(self, **changes: Any) -> Job:
        """A job that has its grant."""
        dataset = self.dataset.bundle.manifest.dataset_id
        request = {"trainers": 2, "exchanges": EXCHANGES} | changes
        return await create_and_grant(self.owner, self.builder, dataset, **request)

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

    def logs(self) -> str:
        """What the enclaves said last."""
        return self.launcher.backend.logs()


@asynccontextmanager
async def faulty_host(
    directory: Path, component: bytes, timing: Timing | None = None
) -> AsyncIterator[FaultyHost]:
    """Everything of it lives in `directory`, whose path must be short."""
    tee = open_tee(directory / "tee")
    settings = Settings(state_dir=directory / "state", port=0, timing=timing or Timing(enclave_stop_s=1))
    (directory / "run").mkdir()
    launcher = SimulatedLauncher(RolesAsProcesses(tee, settings.socket_path, directory / "run"))
    async with deployed(directory, settings, launcher, tee) as there:
        builder = await publish(there.operator, component)
        dataset = await upload(there.owner, digits(), directory / "bundle")
        async with keyholding(there.owner):
            yield FaultyHost(**vars(there), dataset=dataset, builder=builder.sha256)
