"""Creating, seeing and following jobs."""

import asyncio
import base64
from typing import Any

import pytest

from chiron.api.settings import Limits, Settings
from chiron.wire.attestation import Role
from chiron.wire.public_api import ImageInfo
from tests.api.conftest import Party, party
from tests.support.caller import CHUNKS, manifest
from tests.support.launcher import SimulatedLauncher
from tests.support.scripts import Scripts, scripted, silent


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"builder_sha256": "0" * 64}, 404, "builder-unknown"),
        ({"dataset_id": "0" * 32}, 404, "dataset-unknown"),
        ({"trainers": 5}, 422, "job-does-not-fit"),
        ({"trainers": 1025}, 400, "invalid-request"),
        ({"exchanges": 0}, 400, "invalid-request"),
        ({"seed": -1}, 400, "invalid-request"),
        ({"mode": "chaos"}, 400, "invalid-request"),
    ],
)
async def test_a_job_that_cannot_be_is_refused(
    world: Party, component: bytes, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await world.owner("POST", "/v1/jobs", json=await world.prepare(component) | changes)
    assert (answer.status, answer.code) == (status, code)
    assert not world.launcher.orders


async def test_a_job_needs_a_complete_dataset(world: Party, component: bytes) -> None:
    request = await world.prepare(component)
    description = manifest(dataset_id="cd" * 16).model_dump(mode="json")
    await world.owner("POST", "/v1/datasets", json={"manifest": description})
    answer = await world.owner("POST", "/v1/jobs", json=request | {"dataset_id": "cd" * 16})
    assert answer.code == "dataset-incomplete"


async def test_a_builder_gets_no_input_beyond_its_manifest(world: Party, component: bytes) -> None:
    await world.operator.upload_builder(component, max_input_elements=63)
    dataset = await world.owner.upload_dataset()
    sha = (await world.owner("GET", "/v1/builders")).json["items"][0]["sha256"]
    answer = await world.owner("POST", "/v1/jobs", json={"dataset_id": dataset, "builder_sha256": sha})
    assert answer.code == "job-does-not-fit"


async def test_every_trainer_needs_a_chunk(world: Party, component: bytes) -> None:
    request = await world.prepare(component)
    await world.owner.upload_dataset(CHUNKS[:1], "cd" * 16)
    answer = await world.owner("POST", "/v1/jobs", json=request | {"dataset_id": "cd" * 16})
    assert answer.code == "job-does-not-fit"
    assert "trainers" in answer.json["detail"]


async def test_an_operator_sees_every_jobs_public_state_and_no_more(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    assert (await world.operator("GET", f"/v1/jobs/{job}")).status == 200
    assert [entry["spec"]["job"] for entry in (await world.operator("GET", "/v1/jobs")).json["items"]] == [
        job
    ]
    assert (await world.operator("GET", f"/v1/jobs/{job}/observations")).status == 200
    for method, path in [("GET", "objects/model"), ("POST", "grant"), ("POST", "queries")]:
        assert (await world.operator(method, f"/v1/jobs/{job}/{path}")).code == "forbidden"


async def test_another_tenant_sees_nothing_of_a_job(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    assert (await world.stranger("GET", "/v1/jobs")).json["items"] == []
    for path in ("", "/events", "/objects", "/objects/model", "/observations", "/predictor"):
        assert (await world.stranger("GET", f"/v1/jobs/{job}{path}")).code == "job-unknown"
    sealed = {"sealed": "AAAA"}
    for path in ("grant", "queries"):
        assert (await world.stranger("POST", f"/v1/jobs/{job}/{path}", json=sealed)).code == "job-unknown"
    nonce = {"nonce": "A" * 43 + "="}
    assert (await world.stranger("POST", f"/v1/jobs/{job}/evidence", json=nonce)).code == "job-unknown"
    stolen = await world.stranger("POST", "/v1/jobs", json=await world.prepare(component))
    assert stolen.code == "dataset-unknown"


async def test_running_jobs_are_limited_even_in_a_burst(settings: Settings, component: bytes) -> None:
    limits = Limits(trainers=4, running_jobs=3, running_jobs_per_tenant=2)
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings.model_copy(update={"limits": limits}), launcher):
        request = await world.prepare(component)
        burst = await asyncio.gather(*(world.owner("POST", "/v1/jobs", json=request) for _ in range(6)))
        assert sorted(answer.status for answer in burst) == [201, 201, 429, 429, 429, 429]
        assert {answer.code for answer in burst if answer.status == 429} == {"too-many-jobs"}


async def test_events_are_followed_live_and_replayed_from_where_one_was(
    world: Party, component: bytes
) -> None:
    job = await world.create_job(component)
    following = [asyncio.create_task(world.events(job, caller=who)) for who in (world.owner, world.operator)]
    await world.owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": "AAAA"})
    live, seen_by_operator = await asyncio.gather(*following)
    assert live == seen_by_operator == await world.events(job)
    assert [event["sequence"] for event in live] == list(range(1, len(live) + 1))
    for after in (1, len(live) - 1):
        assert await world.events(job, after) == live[after:]


async def test_a_stream_after_the_last_event_ends_at_once(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    await world.owner("POST", f"/v1/jobs/{job}/cancel")
    last = (await world.events(job))[-1]["sequence"]
    assert await asyncio.wait_for(world.events(job, last), 2) == []


@pytest.mark.parametrize("last", ["x", "-1", "1" * 10, "²"])
async def test_a_last_event_id_must_be_one_of_ours(world: Party, component: bytes, last: str) -> None:
    job = await world.create_job(component)
    headers = {"Last-Event-ID": last}
    assert (await world.owner("GET", f"/v1/jobs/{job}/events", headers=headers)).code == "invalid-request"


async def test_event_streams_are_limited_and_freed(settings: Settings, component: bytes) -> None:
    limits = Limits(trainers=4, event_streams=1)
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings.model_copy(update={"limits": limits}), launcher):
        job = await world.create_job(component)
        first = asyncio.create_task(world.events(job))
        await asyncio.sleep(0.1)
        refused = await world.owner("GET", f"/v1/jobs/{job}/events")
        assert (refused.status, refused.code) == (429, "too-many-streams")
        first.cancel()
        await asyncio.sleep(0.5)  # The stream's next keepalive finds nobody there.
        await world.owner("POST", f"/v1/jobs/{job}/cancel")
        assert (await world.events(job))[-1]["state"] == "cancelled"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_predictor_of_another_image_makes_way_and_unknown_ones_are_refused(
    settings: Settings, launcher: SimulatedLauncher[Scripts], component: bytes
) -> None:
    current, older = launcher.measurement, "cd" * 32
    launcher.images = tuple(ImageInfo(measurement=m) for m in (current, older))
    async for world in party(settings, launcher):
        await _predictors_make_way(world, component, current, older)


async def _predictors_make_way(world: Party, component: bytes, current: str, older: str) -> None:
    job = await world.create_job(component)
    owner = world.owner
    nonce = b64(bytes(32))
    await owner("POST", f"/v1/jobs/{job}/evidence", json={"role": "parameter-server", "nonce": nonce})
    assert (await owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": b64(b"grant")})).status == 204
    await world.events(job)
    trained = len(world.launcher.orders)
    for path in (f"/{older}", f"/{older}", "", f"/{current}"):
        assert (await owner("POST", f"/v1/jobs/{job}/predictor{path}")).status == 202
        await owner("POST", f"/v1/jobs/{job}/queries", json={"sealed": b64(b"query")})
    assert [order.measurement for order in world.launcher.orders[trained:]] == [older, None]
    refused = await owner("POST", f"/v1/jobs/{job}/predictor/{'ef' * 32}")
    assert (refused.status, refused.code) == (404, "image-unknown")
    images = (await owner("GET", "/v1/images")).json
    assert images == [{"measurement": m, "proof": None} for m in (current, older)]


async def test_order_without_an_enclave_that_waits_is_refused(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    order = (await world.owner("POST", f"/v1/jobs/{job}/upgrade/order", json={})).code
    assert order == "invalid-request"
    giver = {"giver": world.launcher.measurement}
    begun = await world.owner("POST", f"/v1/jobs/{job}/upgrade", json=giver)
    assert begun.code == "job-not-succeeded"
