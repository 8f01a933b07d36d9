"""Enclaves that misbehave: the job ends with a public code, its processes are gone, its tokens worthless."""

import asyncio
import base64
from typing import Any

import pytest

from chiron.api.settings import Limits, Settings
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Progress
from chiron.wire.jobs import JobState, PublicFailure
from tests.api.conftest import Party, party
from tests.support.scripts import REFUSED_GRANT, Launched, exits, scripted, silent

GRANT = {"sealed": base64.b64encode(b"grant").decode()}
NONCE = base64.b64encode(bytes(32)).decode()


async def finished(world: Party, job: str) -> dict[str, Any]:
    """The job's end, with its processes gone."""
    end = await world.end_of(job)
    await world.running.gateway.supervisor.settled(job)
    assert not world.launcher.running
    assert world.launcher.released == [job]
    for order in world.launcher.orders:
        assert (await world.as_enclave("GET", "/mailbox", order.token)).code == "unauthenticated"
    return end


@pytest.mark.parametrize("role", [Role.PARAMETER_SERVER, Role.TRAINER])
async def test_an_enclave_that_crashes_fails_the_job(world: Party, component: bytes, role: Role) -> None:
    world.launcher.backend.scripts[role] = exits(3)
    end = await finished(world, await world.create_job(component))
    assert (end["state"], end["failure"]) == ("failed", "enclave-exited")


@pytest.mark.parametrize("role", [Role.PARAMETER_SERVER, Role.TRAINER])
async def test_an_enclave_that_is_killed_is_launched_again(
    world: Party, component: bytes, role: Role
) -> None:
    orderly = world.launcher.backend.scripts[role]
    killed: list[str] = []

    async def killed_once(me: Launched) -> int:
        if not killed:
            killed.append(me.order.token)
            return 137
        return await orderly(me)

    world.launcher.backend.scripts[role] = killed_once
    job = await world.create_job(component)
    await world.launcher.launched(4)
    dead = await world.as_enclave("GET", "/mailbox", killed[0])
    assert dead.code == "unauthenticated"
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=GRANT)).status == 204
    assert (await finished(world, job))["state"] == "succeeded"


async def test_an_enclave_that_is_killed_again_and_again_fails_the_job(
    world: Party, component: bytes
) -> None:
    world.launcher.backend.scripts[Role.TRAINER] = exits(137)
    assert (await finished(world, await world.create_job(component)))["failure"] == "enclave-exited"
    limit = world.running.gateway.settings.limits.restarts
    assert sum(order.role is Role.TRAINER for order in world.launcher.orders) <= 2 + limit


async def test_a_parameter_server_that_leaves_early_fails_the_job(world: Party, component: bytes) -> None:
    world.launcher.backend.scripts[Role.PARAMETER_SERVER] = exits(0)
    assert (await finished(world, await world.create_job(component)))["failure"] == "enclave-exited"


async def test_trainers_that_leave_without_an_end_fail_the_job(world: Party, component: bytes) -> None:
    world.launcher.backend.scripts |= {Role.PARAMETER_SERVER: silent, Role.TRAINER: exits(0)}
    assert (await finished(world, await world.create_job(component)))["failure"] == "enclave-exited"


@pytest.mark.parametrize("role", [Role.PARAMETER_SERVER, Role.TRAINER])
async def test_a_launcher_that_fails_fails_the_job(world: Party, component: bytes, role: Role) -> None:
    world.launcher.refuses = frozenset({role})
    job = await world.create_job(component)
    assert (await finished(world, job))["failure"] == "launch-failed"
    assert b"secret" not in (await world.owner("GET", f"/v1/jobs/{job}")).raw


async def test_a_failure_that_an_enclave_reports_is_shown(world: Party, component: bytes) -> None:
    async def refuses(me: Launched) -> int:
        corrupted = PublicFailure.INPUT_CORRUPTED
        await me.gateway.progress(Progress(state=JobState.FAILED, failure=corrupted))
        return 1

    world.launcher.backend.scripts[Role.TRAINER] = refuses
    assert (await finished(world, await world.create_job(component)))["failure"] == "input-corrupted"


async def test_a_job_has_a_deadline(settings: Settings, component: bytes) -> None:
    timing = settings.timing.model_copy(update={"job_s": 0.3})
    hurried = settings.model_copy(update={"timing": timing})
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(hurried, launcher):
        assert (await finished(world, await world.create_job(component)))["failure"] == "deadline-exceeded"


async def test_a_job_can_be_cancelled_at_any_time_and_stays_so(world: Party, component: bytes) -> None:
    world.launcher.backend.scripts = dict.fromkeys(Role, silent)
    job = await world.create_job(component)
    assert (await world.stranger("POST", f"/v1/jobs/{job}/cancel")).code == "job-unknown"
    assert (await world.owner("POST", f"/v1/jobs/{job}/cancel")).json["state"] == "cancelled"
    assert (await finished(world, job))["state"] == "cancelled"
    assert (await world.owner("POST", f"/v1/jobs/{job}/cancel")).json["state"] == "cancelled"
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=GRANT)).code == "job-ended"


async def test_a_silent_enclave_times_out_with_a_code(settings: Settings, component: bytes) -> None:
    timing = settings.timing.model_copy(update={"relay_s": 0.2})
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings.model_copy(update={"timing": timing}), launcher):
        job = await world.create_job(component)
        answer = await world.owner("POST", f"/v1/jobs/{job}/evidence", json={"nonce": NONCE})
        assert (answer.status, answer.code) == (504, "enclave-timeout")


async def test_an_enclave_that_ends_while_it_is_asked_is_gone(world: Party, component: bytes) -> None:
    async def dies(me: Launched) -> int:
        async for _ in me.gateway.mail():
            return 9
        return 0

    world.launcher.backend.scripts[Role.PARAMETER_SERVER] = dies
    job = await world.create_job(component)
    answer = await world.owner("POST", f"/v1/jobs/{job}/evidence", json={"nonce": NONCE})
    assert (answer.status, answer.code) == (504, "enclave-gone")


async def test_too_many_messages_for_one_enclave_are_refused(settings: Settings, component: bytes) -> None:
    limits = Limits(trainers=4, mailbox_messages=2)
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings.model_copy(update={"limits": limits}), launcher):
        job = await world.create_job(component)
        path = f"/v1/jobs/{job}/evidence"
        waiting = [asyncio.create_task(world.owner("POST", path, json={"nonce": NONCE})) for _ in range(2)]
        await asyncio.sleep(0.2)
        answer = await world.owner("POST", path, json={"nonce": NONCE})
        assert (answer.status, answer.code) == (429, "mailbox-full")
        await world.owner("POST", f"/v1/jobs/{job}/cancel")
        assert {answer.code for answer in await asyncio.gather(*waiting)} == {"enclave-gone"}


async def test_an_enclaves_refusal_reaches_the_owner_with_its_code(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    sealed = base64.b64encode(REFUSED_GRANT).decode()
    answer = await world.owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": sealed})
    assert (answer.status, answer.code) == (422, "grant-for-another-job")
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=GRANT)).status == 204
    assert (await world.end_of(job))["state"] == "succeeded"


async def test_a_grant_is_no_place_to_store_things(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    large = base64.b64encode(bytes(300_000)).decode()
    assert (
        await world.owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": large})
    ).code == "body-too-large"
    for bad in ({"sealed": "%"}, {"sealed": ""}, {}):
        assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=bad)).code == "invalid-request"
