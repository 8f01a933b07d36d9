"""What a keyholder opens while its owner is away, and what it does not. The adversary is the host.

The predictors are scripts that quote evidence and take openings as the real ones do; the real ones are asked
in `tests/end_to_end/test_keyholder.py`.
"""

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chiron import AsyncClient, OwnerStore
from chiron.api.server import running_gateway
from chiron.api.settings import Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.granting import new_terms
from chiron.client.history import Deed, Entry, History
from chiron.client.keyholder import LOOK_EVERY_S, OPEN_LOOK_EVERY_S, Keyholder
from chiron.wire.attestation import Role
from chiron.wire.public_api import PredictorState
from tests.support.attested_scripts import AttestedScripts
from tests.support.owners_world import World, publish_builder, software_tee, world
from tests.support.scripts import scripted
from tests.support.tee import MEASUREMENT, OTHER_IMAGE, policy_for

__all__ = ["software_tee", "world"]


async def trained(world: World, client: AsyncClient) -> str:
    """A job that succeeded; no predictor runs."""
    encrypted = await asyncio.to_thread(world.encrypt)
    await client.upload_dataset(encrypted.bundle)
    job = await client.create_job(world.request(encrypted.bundle.manifest.dataset_id, 1))
    await client.send_grant(await client.verify_job(job), terms=new_terms(datetime.now(UTC)))
    await client.wait(job)
    return job.spec.job


async def started(client: AsyncClient, job: str) -> None:
    """A predictor that somebody started, and that is locked."""
    status = await client.gateway.start_predictor(job)
    async with asyncio.timeout(20):
        while status.state is not PredictorState.READY:
            await asyncio.sleep(0.02)
            status = await client.gateway.predictor(job)


def deeds(store: OwnerStore, job: str) -> list[Entry]:
    return [entry for entry in History(store, job).entries() if entry.did in (Deed.OPENED, Deed.REFUSED)]


async def is_open(client: AsyncClient, job: str) -> bool:
    return (await client.verify_job(job, Role.PREDICTOR)).claims.owner_key_sha256 is not None


async def test_it_opens_what_runs_and_is_locked_starts_nothing_and_writes_it_down(world: World) -> None:
    async with world.client() as client:
        job = await trained(world, client)
        now = [0.0]
        keyholder = Keyholder(client, clock=lambda: now[0])
        assert await keyholder.look()
        assert (await client.gateway.predictor(job)).state is PredictorState.STOPPED
        for count in (1, 2):
            await started(client, job)
            assert not await is_open(client, job)
            for _ in range(3):
                assert await keyholder.look()
            assert await is_open(client, job)
            assert [entry.did for entry in deeds(world.store, job)] == [Deed.OPENED] * count
            await client.gateway.stop_predictor(job)
            assert await keyholder.look()
            now[0] += LOOK_EVERY_S
    assert deeds(world.store, job)[0].facts["measurement"] == MEASUREMENT.hex()
    lines = History(world.store, job).path.read_text()
    assert world.store.job(job).share.hex() not in lines


async def test_it_opens_again_before_the_end_and_not_before(world: World) -> None:
    ahead = [timedelta()]
    async with AsyncClient(
        world.running.url,
        world.owner_key,
        policy=world.policy,
        store=world.store,
        clock=lambda: datetime.now(UTC) + ahead[0],
    ) as client:
        job = await trained(world, client)
        now = [0.0]
        keyholder = Keyholder(client, clock=lambda: now[0])
        await started(client, job)
        for ahead_h, openings in ((0, 1), (23.5, 1), (23.99, 2)):
            ahead[0] = timedelta(hours=ahead_h)
            now[0] += OPEN_LOOK_EVERY_S
            assert await keyholder.look()
            assert len(deeds(world.store, job)) == openings


async def test_a_predictor_of_other_code_gets_nothing(world: World) -> None:
    async with world.client() as client:
        job = await trained(world, client)
        await started(client, job)
        wrong = policy_for(world.tee, OTHER_IMAGE.measurement)
        keyholder = Keyholder(client, policy=wrong)
        for _ in range(3):
            assert await keyholder.look()
        (entry,) = deeds(world.store, job)
        assert (entry.did, entry.facts["code"]) == (Deed.REFUSED, "evidence-measurement")
        client.policy = world.policy
        assert not await is_open(client, job)


async def test_a_host_that_starts_predictors_all_the_time_gets_no_endless_openings(world: World) -> None:
    async with world.client() as client:
        job = await trained(world, client)
        keyholder = Keyholder(client, most_an_hour=2)
        for _ in range(4):
            await started(client, job)
            assert await keyholder.look()
            await client.gateway.stop_predictor(job)
            assert await keyholder.look()
        found = deeds(world.store, job)
        assert [entry.did for entry in found] == [Deed.OPENED, Deed.OPENED, Deed.REFUSED]
        assert found[-1].facts["code"] == "too-many-openings"


async def test_a_history_that_was_altered_stops_no_other_job(world: World) -> None:
    async with world.client() as client:
        first, second = (
            await trained(world, client),
            await trained(replace(world, directory=_new(world)), client),
        )
        History(world.store, first).path.write_text("{}\n")
        for job in (first, second):
            await started(client, job)
        assert await Keyholder(client).look()
        assert await is_open(client, second)


def _new(world: World) -> Path:
    directory = world.directory / "second"
    directory.mkdir()
    return directory


async def test_a_gateway_that_was_away_is_back_and_what_it_started_again_is_opened(
    tmp_path: Path, software_tee: SoftwareTee
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = Settings(state_dir=tmp_path / "state", port=port, enclave_socket=tmp_path / "g.sock")
    enclaves, store = AttestedScripts(software_tee), OwnerStore(tmp_path / "home")
    launcher = scripted(settings.socket_path, enclaves.scripts)
    policy = policy_for(software_tee)
    await publish_builder(settings)
    async with running_gateway(settings, launcher) as running:
        there = World(running, software_tee, launcher, enclaves, store, policy, tmp_path)
        client, key = there.client(), there.owner_key
        job = await trained(there, client)
        await started(client, job)
    stopping = asyncio.Event()
    async with client, AsyncClient(f"http://127.0.0.1:{port}", key, policy=policy, store=store) as fresh:
        opened = asyncio.Event()
        keyholder = Keyholder(fresh, told=lambda *_: opened.set())
        assert not await keyholder.look()
        looking = asyncio.create_task(keyholder.run(stopping, look_every_s=0.1))
        again = scripted(settings.socket_path, enclaves.scripts)
        async with running_gateway(settings, again), asyncio.timeout(30):
            await opened.wait()
            stopping.set()
            await looking
    assert [entry.did for entry in deeds(store, job)] == [Deed.OPENED]


@pytest.mark.parametrize("stopped_after_s", [0.0, 0.05])
async def test_it_ends_at_once_when_it_is_told_to(world: World, stopped_after_s: float) -> None:
    async with world.client() as client:
        stopping = asyncio.Event()
        looking = asyncio.create_task(Keyholder(client).run(stopping, look_every_s=60))
        await asyncio.sleep(stopped_after_s)
        stopping.set()
        await asyncio.wait_for(looking, 5)
