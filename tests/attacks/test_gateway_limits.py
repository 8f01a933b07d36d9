"""Tenants of one gateway: none may take what there is for all, nor make it slow for the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from chiron.api.errors import TooManyRequests
from chiron.api.keys import Principal, TenantRole
from chiron.api.rates import Rate, Rates
from chiron.api.settings import Limits, Timing
from chiron.client.gateway_session import GatewaySession
from chiron.wire.encoding import canonical_json
from chiron.wire.objects import all_bytes, all_objects
from tests.support.caller import CHUNKS, manifest
from tests.support.party import Party, party, settings_in
from tests.support.scripts import scripted
from tests.support.specs import job_spec

MANIFEST_BYTES = len(canonical_json(manifest())) + 500
"""No chunk has room in what is left of it."""


async def small(directory: Path, **limits: float) -> AsyncIterator[Party]:
    settings = settings_in(directory, limits=Limits.model_validate({"trainers": 4} | limits))
    async for everybody in party(settings, scripted(settings.socket_path)):
        yield everybody


@pytest.fixture
async def few_streams(tmp_path: Path) -> AsyncIterator[Party]:
    async for world in small(tmp_path, event_streams_per_tenant=3, event_streams=5):
        yield world


async def test_attack_one_tenant_takes_its_share_of_event_streams_only(
    few_streams: Party, component: bytes
) -> None:
    world = few_streams
    job = await world.create_job(component)
    url = f"{world.owner.url}/v1/jobs/{job}/events"
    streams = [await world.owner.session.get(url, headers=world.owner.headers) for _ in range(4)]
    assert [stream.status for stream in streams] == [200, 200, 200, 429]
    assert (await streams[3].json())["code"] == "too-many-streams"
    assert int(streams[3].headers["Retry-After"]) >= 1
    async with world.operator.session.get(url, headers=world.operator.headers) as others:
        assert others.status == 200
    for stream in streams:
        stream.close()
    await asyncio.sleep(0.5)
    async with world.owner.session.get(url, headers=world.owner.headers) as again:
        assert again.status == 200
    await world.owner("POST", f"/v1/jobs/{job}/cancel")


@pytest.fixture
async def slow_world(tmp_path: Path) -> AsyncIterator[Party]:
    limits = {"requests_per_s": 2, "requests_burst": 5, "tenant_requests_per_s": 2}
    async for world in small(tmp_path, **limits, tenant_requests_burst=8):
        yield world


async def test_attack_flood_of_requests_is_slowed_down_for_its_own_tenant_only(slow_world: Party) -> None:
    world = slow_world
    answers = [await world.owner("GET", "/v1/builders") for _ in range(7)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].code == "too-many-requests"
    assert answers[-1].headers["Retry-After"] == "1"
    assert (await world.stranger("GET", "/v1/builders")).status == 200


async def test_attack_many_keys_of_one_tenant_have_one_rate_together(slow_world: Party) -> None:
    keys = [await slow_world.running.gateway.keys.create("many", TenantRole.OWNER) for _ in range(10)]
    statuses = []
    for key in keys:
        answer = await slow_world.nobody("GET", "/v1/builders", headers={"Authorization": f"Bearer {key}"})
        statuses.append(answer.status)
    assert statuses == [200] * 8 + [429] * 2


async def test_client_that_is_too_fast_waits_its_turn(slow_world: Party) -> None:
    key = slow_world.owner.headers["Authorization"].removeprefix("Bearer ")
    async with GatewaySession(slow_world.owner.url, key) as session:
        for _ in range(7):
            assert await session.images()


async def test_attack_long_manifests_one_after_the_other_keep_the_gateway_busy_for_one_tenant(
    slow_world: Party,
) -> None:
    """One of 16 MiB takes it most of a second to read and hash, whatever else it has to do."""
    world = slow_world
    chunks = (b"",) * 2000
    for number in range(2):
        long = manifest(chunks, f"{number:032x}").model_dump(mode="json")
        answer = await world.owner("POST", "/v1/datasets", json={"manifest": long})
        assert answer.status == (429 if number else 201), answer.raw
    assert int(answer.headers["Retry-After"]) >= 2
    assert (await world.stranger("GET", "/v1/datasets")).status == 200


def test_what_is_large_counts_as_many_requests_for_key_tenant_and_visitors() -> None:
    now = 0.0
    limits = Limits(requests_per_s=1, requests_burst=10, tenant_requests_per_s=1, tenant_requests_burst=20)
    rates = Rates(limits, clock=lambda: now)
    owner, colleague = (Principal("hospital", TenantRole.OWNER, key) for key in ("1", "2"))
    rates.charge(owner, 999, 1000)
    rates.take(owner)
    rates.charge(owner, 25_000, 1000)
    for caller in (owner, colleague):
        with pytest.raises(TooManyRequests):
            rates.take(caller)
    now = 8.0
    rates.take(colleague)
    with pytest.raises(TooManyRequests):
        rates.take(owner)
    rates.take(Principal("rival", TenantRole.OWNER, "3"))


def test_attack_forged_callers_do_not_fill_the_memory_of_rates() -> None:
    time = 0.0
    rate = Rate(1, 2, clock=lambda: time)
    for number in range(10_000):
        rate.take(str(number))
    rate.take("0")
    with pytest.raises(TooManyRequests):
        rate.take("0")
    time = 5.0
    rate.take("one more")
    assert len(rate) == 1


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[Party]:
    async for world in small(tmp_path, storage_bytes_per_tenant=3 * 1000 + MANIFEST_BYTES):
        yield world


async def test_attack_one_tenant_fills_its_own_storage_only(small_disk: Party) -> None:
    world = small_disk
    description = {"manifest": manifest().model_dump(mode="json")}
    dataset = description["manifest"]["dataset_id"]
    for caller in (world.owner, world.stranger):
        assert (await caller("POST", "/v1/datasets", json=description)).status == 201
    put = [
        await world.owner("PUT", f"/v1/datasets/{dataset}/chunks/{number}", data=chunk)
        for number, chunk in enumerate(CHUNKS)
    ]
    assert [answer.status for answer in put] == [204, 204, 204, 507]
    assert put[3].code == "storage-full"
    other = await world.stranger("PUT", f"/v1/datasets/{dataset}/chunks/3", data=CHUNKS[3])
    assert other.status == 204


async def test_attack_uploads_at_once_do_not_pass_the_storage_limit_together(small_disk: Party) -> None:
    world = small_disk
    dataset = manifest().dataset_id
    await world.owner("POST", "/v1/datasets", json={"manifest": manifest().model_dump(mode="json")})
    put = await asyncio.gather(
        *(
            world.owner("PUT", f"/v1/datasets/{dataset}/chunks/{number}", data=chunk)
            for number, chunk in enumerate(CHUNKS)
        )
    )
    assert sum(answer.status == 204 for answer in put) <= 3
    assert await world.running.gateway.storage.used("hospital") <= 3 * 1000 + MANIFEST_BYTES


async def test_deleting_a_dataset_makes_room(small_disk: Party) -> None:
    world, dataset = small_disk, manifest().dataset_id
    await world.owner.upload_dataset(CHUNKS[:3])
    assert (await world.owner("DELETE", f"/v1/datasets/{dataset}")).status == 204
    await world.owner.upload_dataset(CHUNKS[:3])


async def test_storage_is_counted_anew_after_a_restart(tmp_path: Path, component: bytes) -> None:
    used: list[list[int]] = []
    for _ in range(2):
        async for world in small(tmp_path):
            if not used:
                await world.create_job(component)
                await asyncio.sleep(0.2)
            used.append(
                [await world.running.gateway.storage.used(tenant) for tenant in ("hospital", "op", "rival")]
            )
    assert used[0] == used[1]
    assert used[0][0] > 4000
    assert used[0][1] == len(component)
    assert used[0][2] == 0


def test_what_a_job_may_store_is_the_sum_of_its_objects() -> None:
    for shape in ({}, {"shards": 3}, {"trainers": 2, "exchanges": 40}):
        spec = job_spec(exchange=shape)
        assert all_bytes(spec) == sum(one.stored_bytes for one in all_objects(spec))


async def test_attack_sealed_objects_of_jobs_pass_the_storage_limit(tmp_path: Path, component: bytes) -> None:
    """A job that does not fit is refused when it is asked for, and never in its middle."""
    taken = 0
    async for world in small(tmp_path):
        job = await world.create_job(component)
        taken = await world.running.gateway.storage.used("hospital")
        assert taken > all_bytes((await world.running.gateway.records.get(job, "hospital")).spec)
        assert (await world.owner("POST", f"/v1/jobs/{job}/cancel")).status == 200
        # It makes nothing any more.
        assert await world.running.gateway.storage.used("hospital") < taken
    async for world in small(tmp_path, storage_bytes_per_tenant=taken + 4000):
        request = await world.prepare(component)
        first = await world.owner("POST", "/v1/jobs", json=request)
        assert first.status == 201
        job = first.json["spec"]["job"]
        second = await world.owner("POST", "/v1/jobs", json=request)
        assert (second.status, second.code) == (507, "storage-full")
        await world.owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": "Z3JhbnQ="})
        assert (await world.end_of(job))["state"] == "succeeded"
        assert (await world.owner("POST", "/v1/jobs", json=request)).code == "storage-full"
        assert (await world.owner("DELETE", f"/v1/jobs/{job}")).status == 204
        assert (await world.owner("POST", "/v1/jobs", json=request)).status == 201


async def test_attack_jobs_asked_for_at_once_pass_the_storage_limit_together(
    tmp_path: Path, component: bytes
) -> None:
    taken = 0
    async for world in small(tmp_path):
        job = await world.create_job(component)
        taken = await world.running.gateway.storage.used("hospital")
        await world.owner("POST", f"/v1/jobs/{job}/cancel")
    async for world in small(tmp_path, storage_bytes_per_tenant=taken + 4000):
        request = await world.prepare(component)
        asked = [world.owner("POST", "/v1/jobs", json=request) for _ in range(4)]
        made = [answer.status for answer in await asyncio.gather(*asked)].count(201)
        stored = await world.running.gateway.storage.used("hospital")
    assert made <= 1
    assert stored <= taken + 4000


@pytest.fixture
async def short_of_places(tmp_path: Path) -> AsyncIterator[Party]:
    limits = Limits(connections=6, connections_per_address=4)
    settings = settings_in(tmp_path, limits=limits, timing=Timing(header_s=0.5, idle_s=0.5, shutdown_s=1))
    async for world in party(settings, scripted(settings.socket_path)):
        yield world


async def test_attack_idle_and_dripping_connections_keep_nobody_from_the_gateway(
    short_of_places: Party,
) -> None:
    url = URL(short_of_places.owner.url)
    idle = []
    for number in range(20):
        source = f"127.0.0.{2 + number % 3}"
        reader, writer = await asyncio.open_connection(url.host, url.port, local_addr=(source, 0))
        writer.write(b"GET / HTTP/1.1\r\nHost: d" if number % 2 else b"")
        idle.append(reader)
    assert (await short_of_places.owner("GET", "/v1/builders")).status == 200

    async def ended(reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()

    await asyncio.wait_for(asyncio.gather(*map(ended, idle)), 3)


async def test_metrics_are_not_at_the_public_address(short_of_places: Party) -> None:
    assert (await short_of_places.nobody("GET", "/metrics")).code == "route-unknown"
