"""A job whose machine is lost goes on, in the middle, on another one that its grant names."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from chiron import Job, JobState
from chiron.api.settings import Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.granting import new_terms
from chiron.client.machines import MachineBook
from chiron.runtime.roles.sealed_model import open_model
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.contract import CapabilityGrants
from chiron.wire.jobs import JobRequest
from chiron.wire.labels import MODEL
from tests.support.builders import orderly
from tests.support.datasets import digits
from tests.support.deployment import Deployment, deployed, keyholding, publish, upload
from tests.support.launcher import SimulatedLauncher
from tests.support.mortal import SERVER
from tests.support.roles import Death, RolesInProcess
from tests.support.tee import DirectPlatform, machine_of_the_same_maker, open_tee

EXCHANGES = 6
LOST_AT = 5
"""PUTs of the parameter server's checkpoint after which the machine is gone."""


def launcher_on(
    tee: SoftwareTee, settings: Settings, directory: Path, name: str
) -> SimulatedLauncher[RolesInProcess]:
    """Real roles on this machine."""
    taps = directory / name
    taps.mkdir()
    return SimulatedLauncher(RolesInProcess(tee, settings.socket_path, taps))


async def begin(there: Deployment[RolesInProcess], directory: Path, machines: list[str]) -> Job:
    """A job that is granted for these machines."""
    dataset = await upload(there.owner, digits(), directory / "bundle")
    builder = await publish(there.operator, orderly(epochs=3, ema_decay=0.9))
    job = await there.owner.create_job(
        JobRequest.model_validate(
            {
                "dataset_id": dataset.bundle.manifest.dataset_id,
                "builder_sha256": builder.sha256,
                "trainers": 2,
                "exchanges": EXCHANGES,
                "terms": {"shards": 2, "unpaced": True},
            }
        )
    )
    terms = new_terms(
        datetime.now(UTC),
        capabilities=CapabilityGrants(granted=frozenset(builder.capabilities)),
        machines=MachineBook(there.owner.store).keys(machines),
    )
    await there.owner.send_grant(await there.owner.verify_job(job), terms=terms)
    return job


async def test_a_job_goes_on_where_its_grant_says() -> None:
    with TemporaryDirectory(prefix="chiron-") as place:
        directory = Path(place)
        here = open_tee(directory / "a")
        there = open_tee(machine_of_the_same_maker(directory / "a", directory / "b"))
        fresh = Settings(state_dir=directory / "fresh", port=0)
        launcher = launcher_on(there, fresh, directory, "0")
        async with deployed(directory, fresh, launcher, there) as second:
            await second.owner.add_machine("paris")

        settings = Settings(state_dir=directory / "state", port=0)
        launcher = launcher_on(here, settings, directory, "1")
        launcher.backend.deaths = [Death((SERVER,), "PUT checkpoint-parameter-server", LOST_AT, heard=True)]
        async with deployed(directory, settings, launcher, here) as first:
            (paris,) = MachineBook(first.owner.store).all()
            (first.state / "machines").write_text(paris.key_name)
            job = await begin(first, directory, ["paris"])
            async for seen in first.owner.watch(job):
                if seen.awaiting_owner:
                    break
            assert 0 < seen.exchanges_done < EXCHANGES

        # What the host has stored is carried to the other machine; the first one is gone.
        launcher = launcher_on(there, settings, directory, "2")
        async with deployed(directory, settings, launcher, there) as second, keyholding(second.owner):
            seen = [one async for one in second.owner.watch(job)][-1]
            assert (seen.state, seen.failure) == (JobState.SUCCEEDED, None), launcher.backend.codes
            assert len(await second.owner.reports(job)) == EXCHANGES
            (stored,) = second.objects(job, "model")
            sealer = Sealer(DirectPlatform(there), MODEL, second.owner.store.job(job.spec.job).share)
            assert open_model(job.spec, stored.read_bytes(), sealer)[1]
