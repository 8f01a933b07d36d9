"""Lists of a gateway: long ones come in pages, and nothing large is parsed for them while others wait."""

import asyncio
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from aiohttp import web

from chiron.api.paging import cursor
from chiron.client.errors import GatewayMisbehaved
from chiron.client.gateway_session import GatewaySession
from chiron.wire.datasets import DatasetManifest
from chiron.wire.enclave_api import ObjectInfo
from tests.support.caller import Caller
from tests.support.party import Party
from tests.support.specs import DIGITS, dataset_manifest

CHUNKS = 20_000
DATASETS = 12
A_LONG_ONE_S = 1.0
"""After which a caller of the usual rate may make another request as long."""


def long_manifest() -> DatasetManifest:
    """Of a megabyte and more, most of which is digests."""
    return dataset_manifest(
        dataset_id=secrets.token_hex(16),
        examples=CHUNKS,
        chunk_examples=1,
        chunk_sha256=tuple([secrets.token_hex(32)] * CHUNKS),
        **DIGITS,
    )


async def test_attack_list_of_datasets_with_long_manifests_blocks_nobody(
    world: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(DATASETS):
        body = {"manifest": long_manifest().model_dump(mode="json")}
        assert (await world.stranger("POST", "/v1/datasets", json=body)).status == 201
        # A long manifest counts as many requests.
        await asyncio.sleep(A_LONG_ONE_S)
    monkeypatch.setattr(DatasetManifest, "model_validate_json", None)
    listing = asyncio.create_task(world.stranger("GET", "/v1/datasets"))
    slowest = 0.0
    while not listing.done():
        began = time.perf_counter()
        assert (await world.nobody("GET", "/healthz")).status == 200
        slowest = max(slowest, time.perf_counter() - began)
    answer = listing.result()
    assert len(answer.json["items"]) == DATASETS
    assert {item["chunks"] for item in answer.json["items"]} == {CHUNKS}
    assert len(answer.raw) < 10_000
    assert slowest < 0.5


async def finished(world: Party, component: bytes) -> str:
    """A job that made its objects."""
    job = await world.create_job(component)
    sealed = {"sealed": b64encode(b"grant").decode()}
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=sealed)).status == 204
    assert (await world.end_of(job))["state"] == "succeeded"
    return job


async def all_pages(caller: Caller, path: str, limit: int) -> list[list[dict[str, Any]]]:
    pages, at = [], ""
    while True:
        answer = await caller("GET", path, params={"limit": str(limit)} | ({"cursor": at} if at else {}))
        assert answer.status == 200, answer.raw
        pages.append(answer.json["items"])
        at = answer.json["next"]
        if at is None:
            return pages


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_attack_pages_neither_repeat_nor_leave_out_an_item(
    world: Party, component: bytes, limit: int
) -> None:
    job = await finished(world, component)
    ids = [await world.owner.upload_dataset(dataset_id=secrets.token_hex(16)) for _ in range(4)]
    for path in ("/v1/datasets", "/v1/jobs", f"/v1/jobs/{job}/objects", f"/v1/jobs/{job}/observations"):
        whole = (await all_pages(world.owner, path, 1000))[0]
        pages = await all_pages(world.owner, path, limit)
        assert [item for page in pages for item in page] == whole
        assert all(len(page) == limit for page in pages[:-1])
    datasets = (await world.owner("GET", "/v1/datasets")).json["items"]
    assert {item["dataset_id"] for item in datasets} == {"ab" * 16, *ids}


async def test_attack_what_is_added_between_two_pages_moves_nothing(world: Party) -> None:
    for _ in range(3):
        await world.owner.upload_dataset(dataset_id=secrets.token_hex(16))
    whole = (await world.owner("GET", "/v1/datasets")).json["items"]
    first = (await world.owner("GET", "/v1/datasets?limit=2")).json
    await asyncio.sleep(0.01)
    await world.owner.upload_dataset(dataset_id=secrets.token_hex(16))
    second = await world.owner("GET", f"/v1/datasets?limit=2&cursor={first['next']}")
    assert first["items"] + second.json["items"] == whole
    assert second.json["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=1e9",
        "limit=%D9%A3",
        "cursor=%00",
        "cursor=" + "A" * 500,
        "cursor=" + urlsafe_b64encode(b"\xff\xff").decode(),
        "cursor=" + cursor(("one",)),
        "cursor=" + cursor(("one", "two", "three")),
    ],
)
async def test_attack_forged_cursor_is_refused(world: Party, query: str) -> None:
    answer = await world.owner("GET", f"/v1/datasets?{query}")
    assert (answer.status, answer.code) == (400, "invalid-request")


async def test_attack_cursor_with_sql_in_it_is_only_text(world: Party) -> None:
    await world.owner.upload_dataset()
    injected = cursor(("9", "' OR 1=1; DROP TABLE datasets; --"))
    assert len((await world.owner("GET", f"/v1/datasets?cursor={injected}")).json["items"]) == 1
    assert len((await world.owner("GET", "/v1/datasets")).json["items"]) == 1


async def test_attack_cursor_of_another_tenant_shows_nothing_of_theirs(world: Party) -> None:
    for _ in range(2):
        await world.owner.upload_dataset(dataset_id=secrets.token_hex(16))
    theirs = (await world.owner("GET", "/v1/datasets?limit=1")).json["next"]
    assert (await world.stranger("GET", f"/v1/datasets?cursor={theirs}")).json["items"] == []


@pytest.mark.parametrize(
    ("items", "most_bytes"),
    [
        ([], 10**9),
        ([{"name": "model", "size": 3}] * 1000, 10**9),
        ([{"name": "model", "size": 3}] * 200, 15_000),
    ],
)
async def test_attack_list_without_end_of_a_hostile_gateway_is_given_up(
    items: list[Any], most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chiron.client.gateway_session.MAX_LISTED", 2500)
    monkeypatch.setattr("chiron.client.gateway_session.MAX_LISTED_BYTES", most_bytes)
    asked = []

    async def endless(request: web.Request) -> web.Response:
        asked.append(request.query.get("cursor"))
        return web.json_response({"items": items, "next": "../../more?"})

    app = web.Application()
    app.router.add_get("/v1/jobs/x/objects", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with GatewaySession(f"http://{host}:{port}", "key") as session:
            with pytest.raises(GatewayMisbehaved):
                await session.objects("x")
    finally:
        await runner.cleanup()
    assert len(asked) <= 3
    assert set(asked) <= {None, "../../more?"}


async def test_client_follows_pages_by_itself(world: Party, component: bytes) -> None:
    job = await finished(world, component)
    key = world.owner.headers["Authorization"].removeprefix("Bearer ")
    async with GatewaySession(world.owner.url, key) as session:
        stored = await session.objects(job)
    names = [page[0]["name"] for page in await all_pages(world.owner, f"/v1/jobs/{job}/objects", 1)]
    assert [info.name for info in stored if isinstance(info, ObjectInfo)] == names
