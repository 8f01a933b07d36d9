"""No tenant keeps the others from a predictor: idle ones end, and who has too many makes room."""

import asyncio
import base64
from pathlib import Path

import pytest

from chiron.api.settings import Limits, Settings
from chiron.runtime.channels.in_use import telling_use
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Mail, MailKind, MailReply, SealedMessage
from tests.support.caller import Caller
from tests.support.party import Party, party, settings_in
from tests.support.scripts import Launched, scripted, silent

NONCE = base64.b64encode(bytes(32)).decode()
SEALED = {"sealed": base64.b64encode(b"sealed").decode()}
PREDICTORS, SHARE = 3, 1


def crowded(directory: Path, **timing: float) -> Settings:
    """A gateway for few predictors."""
    limits = Limits(trainers=4, predictors=PREDICTORS, predictors_per_tenant=SHARE, running_jobs_per_tenant=8)
    plain = settings_in(directory, limits=limits)
    return plain.model_copy(update={"timing": plain.timing.model_copy(update=timing)})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return crowded(tmp_path)


@pytest.fixture
async def full(world: Party, component: bytes) -> Party:
    """A gateway all of whose predictors are one tenant's."""
    for _ in range(PREDICTORS):
        await predicted(world, world.owner, await trained(world, world.owner, component))
    return world


async def trained(world: Party, owner: Caller, component: bytes) -> str:
    """A job of this owner that succeeded."""
    builder = await world.operator.upload_builder(component)
    dataset = await owner.upload_dataset()
    request = {"dataset_id": dataset, "builder_sha256": builder.json["sha256"], "trainers": 1, "exchanges": 1}
    answer = await owner("POST", "/v1/jobs", json=request)
    assert answer.status == 201, answer.raw
    job = str(answer.json["spec"]["job"])
    assert (await owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)).status == 204
    assert (await world.events(job, caller=owner))[-1]["state"] == "succeeded"
    return job


async def predicted(world: Party, owner: Caller, job: str) -> None:
    """Its predictor runs and answers."""
    started = await owner("POST", f"/v1/jobs/{job}/predictor")
    assert started.status == 202, started.raw
    answer = await owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)
    assert answer.status == 200, answer.raw


async def state(owner: Caller, job: str) -> str:
    return str((await owner("GET", f"/v1/jobs/{job}/predictor")).json["state"])


async def jobs_of(owner: Caller) -> list[str]:
    """Ids, oldest first."""
    return [job["spec"]["job"] for job in reversed((await owner("GET", "/v1/jobs")).json["items"])]


def processes(world: Party) -> int:
    return sum(not one.ended for one in world.launcher.enclaves if one.name.startswith("predictor"))


async def test_one_tenants_predictors_keep_no_other_from_its_first_prediction(
    full: Party, component: bytes
) -> None:
    await predicted(full, full.stranger, await trained(full, full.stranger, component))
    assert processes(full) == PREDICTORS


async def test_the_one_that_was_idle_longest_makes_room(full: Party, component: bytes) -> None:
    first, second, third = await jobs_of(full.owner)
    for job in (first, third):
        assert (await full.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).status == 200
    await predicted(full, full.stranger, await trained(full, full.stranger, component))
    states = [await state(full.owner, job) for job in (first, second, third)]
    assert states == ["ready", "stopped", "ready"]


async def test_predictors_that_are_kept_busy_make_room_too(world: Party, component: bytes) -> None:
    mine = [await trained(world, world.owner, component) for _ in range(PREDICTORS)]
    theirs = await trained(world, world.stranger, component)
    scripts = world.launcher.backend.scripts
    orderly, scripts[Role.PREDICTOR] = scripts[Role.PREDICTOR], silent
    asking = []
    for job in mine:
        assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
        asking.append(asyncio.create_task(world.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)))
    await asyncio.sleep(0.2)
    scripts[Role.PREDICTOR] = orderly
    await predicted(world, world.stranger, theirs)
    assert sorted([(await task).code for task in asking]) == ["enclave-gone", *["enclave-timeout"] * 2]


async def test_a_tenant_with_its_share_takes_no_place_of_anothers(full: Party, component: bytes) -> None:
    first = await trained(full, full.stranger, component)
    second = await trained(full, full.stranger, component)
    await predicted(full, full.stranger, first)
    before = [await state(full.owner, job) for job in await jobs_of(full.owner)]
    await predicted(full, full.stranger, second)
    assert [await state(full.owner, job) for job in await jobs_of(full.owner)] == before
    assert await state(full.stranger, first) == "stopped"


async def test_a_burst_of_starts_leaves_no_more_processes_than_allowed(full: Party, component: bytes) -> None:
    jobs = [*await jobs_of(full.owner), *[await trained(full, full.owner, component) for _ in range(3)]]
    most = 0

    async def count() -> None:
        nonlocal most
        while True:
            most = max(most, processes(full))
            await asyncio.sleep(0.005)

    counting = asyncio.create_task(count())
    await asyncio.gather(*(full.owner("POST", f"/v1/jobs/{job}/predictor") for job in jobs * 3))
    await predicted(full, full.stranger, await trained(full, full.stranger, component))
    counting.cancel()
    assert most == PREDICTORS


async def test_a_predictor_that_is_told_to_stop_twice_keeps_no_place(full: Party) -> None:
    jobs = await jobs_of(full.owner)
    stops = [full.owner("DELETE", f"/v1/jobs/{job}/predictor") for job in jobs for _ in range(3)]
    assert {answer.status for answer in await asyncio.gather(*stops)} <= {200, 409}
    assert processes(full) == 0
    for job in jobs:
        await predicted(full, full.owner, job)


async def test_one_that_is_started_while_it_ends_is_started_again(full: Party) -> None:
    job = (await jobs_of(full.owner))[0]
    stop = asyncio.create_task(full.running.gateway.predictors.stop(job))
    await asyncio.sleep(0)
    await predicted(full, full.owner, job)
    await stop


async def test_an_idle_predictor_ends_in_order_and_one_that_is_asked_does_not(
    tmp_path: Path, component: bytes
) -> None:
    settings = crowded(tmp_path, predictor_idle_s=0.6)
    async for world in party(settings, scripted(settings.socket_path)):
        asked = await trained(world, world.owner, component)
        idle = await trained(world, world.owner, component)
        for job in (idle, asked):
            await predicted(world, world.owner, job)
        for _ in range(6):
            await asyncio.sleep(0.2)
            assert (await world.owner("POST", f"/v1/jobs/{asked}/queries", json=SEALED)).status == 200
        assert await state(world.owner, asked) == "ready"
        assert await state(world.owner, idle) == "stopped"
        await predicted(world, world.owner, idle)


async def test_looking_at_a_predictor_does_not_keep_it_running(tmp_path: Path, component: bytes) -> None:
    settings = crowded(tmp_path, predictor_idle_s=0.4)
    async for world in party(settings, scripted(settings.socket_path)):
        job = await trained(world, world.owner, component)
        await predicted(world, world.owner, job)
        for _ in range(10):
            await asyncio.sleep(0.1)
            seen = await state(world.owner, job)
            # A keyholder does that all the time.
            await world.owner("POST", f"/v1/jobs/{job}/evidence", json={"role": "predictor", "nonce": NONCE})
        assert seen == "stopped"


async def test_a_predictor_that_says_it_is_used_at_its_own_door_goes_on(
    tmp_path: Path, component: bytes
) -> None:
    settings = crowded(tmp_path, predictor_idle_s=0.6)
    launcher = scripted(settings.socket_path)

    async def asked_directly(me: Launched) -> int:
        answer = telling_use(me.gateway, answered, every_s=0.1)
        while True:
            await answer(Mail(id="0" * 32, kind=MailKind.QUERY, message=SealedMessage(sealed=b"query")))
            await asyncio.sleep(0.1)

    async def answered(_: Mail) -> MailReply:
        return MailReply(message=SealedMessage(sealed=b"answer"))

    async for world in party(settings, launcher):
        job = await trained(world, world.owner, component)
        launcher.backend.scripts[Role.PREDICTOR] = asked_directly
        assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
        await asyncio.sleep(1.5)
        assert await state(world.owner, job) == "ready"
