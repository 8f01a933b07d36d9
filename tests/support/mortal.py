"""Jobs whose roles are tasks that die at chosen calls to the gateway: they say nothing more to anybody.

Real processes are killed in `test_faults`; here the moment is exact, and a job takes a second.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiron.api.settings import Limits, Settings
from chiron.runtime.roles.sealed_model import open_model
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role, TcbStatus
from chiron.wire.jobs import Job, JobState
from chiron.wire.labels import MODEL
from chiron.wire.reports import TrainingReport
from tests.support.datasets import digits
from tests.support.deployment import (
    UP_TO_DATE,
    Deployment,
    create_and_grant,
    deployed,
    keyholding,
    publish,
    upload,
)
from tests.support.launcher import SimulatedLauncher
from tests.support.roles import Death, RolesInProcess
from tests.support.tee import DirectPlatform, open_tee


@dataclass(frozen=True)
class Ended:
    """A job and what came of it, in the clear."""

    job: Job
    model: bytes
    reports: list[TrainingReport]
    objects: frozenset[tuple[str, int]] = frozenset()
    """Name and size of all that was ever stored: what a restart repeats is no other."""


@dataclass
class MortalWorld(Deployment[RolesInProcess]):
    """A gateway with mortal enclaves, and an owner with a dataset."""

    dataset: str
    manifest: dict[str, Any] = field(default_factory=dict)
    """What the builders' manifests say other than usual."""

    @property
    def codes(self) -> list[str]:
        """Of the errors that enclaves ended with."""
        return self.launcher.backend.codes

    async def run(self, component: bytes, *deaths: Death, **request: Any) -> Ended:
        """A job from its creation to its end. Every death must have happened."""
        backend = self.launcher.backend
        backend.deaths = list(deaths)
        builder = await publish(self.operator, component, **self.manifest)
        asked = {"trainers": 2, "exchanges": 6} | request
        job = await create_and_grant(self.owner, builder.sha256, self.dataset, **asked)
        job = [seen async for seen in self.owner.watch(job)][-1]
        await self.gateway.supervisor.settled(job.spec.job)
        assert all(death.happened for death in deaths), (deaths, job.state, job.failure, backend.codes)
        if job.failure is not None:
            return Ended(job, b"", [])
        (path,) = self.objects(job, "model")
        share = self.owner.store.job(job.spec.job).share
        sealer = Sealer(DirectPlatform(backend.tee), MODEL, share)
        _, model = open_model(job.spec, path.read_bytes(), sealer)
        seen = await self.owner.observations(job)
        objects = frozenset((item.name, item.size) for item in seen if item.kind == "object")
        return Ended(job, model, list(await self.owner.reports(job)), objects)


def expect_same(ended: Ended, undisturbed: Ended) -> None:
    """Succeeded, with the same model and the same report on every exchange."""
    assert (ended.job.state, ended.job.failure) == (JobState.SUCCEEDED, None)
    assert ended.model == undisturbed.model
    assert ended.reports == undisturbed.reports


@asynccontextmanager
async def mortal_world(
    directory: Path,
    *,
    keyholder: bool = True,
    status: TcbStatus = TcbStatus.UP_TO_DATE,
    accepted_tcb: frozenset[TcbStatus] = UP_TO_DATE,
) -> AsyncIterator[MortalWorld]:
    """Everything of it lives in `directory`, whose path must be short. A keyholder opens what was killed.

    The machine's patch level has `status`, and the owner's policy accepts `accepted_tcb`.
    """
    tee = open_tee(directory / "tee", status)
    settings = Settings(state_dir=directory / "state", port=0, limits=Limits(restarts=20))
    (directory / "taps").mkdir()
    launcher = SimulatedLauncher(RolesInProcess(tee, settings.socket_path, directory / "taps"))
    async with deployed(directory, settings, launcher, tee, accepted_tcb) as there:
        dataset = await upload(there.owner, digits(), directory / "bundle")
        async with keyholding(there.owner) if keyholder else nullcontext():
            yield MortalWorld(**vars(there), dataset=dataset.bundle.manifest.dataset_id)


LEAD, OTHER, SERVER = f"{Role.TRAINER}-0", f"{Role.TRAINER}-1", f"{Role.PARAMETER_SERVER}-0"
