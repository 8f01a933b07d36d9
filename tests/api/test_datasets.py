"""Uploads of ciphertext: only what the manifest names, whole, resumable, and seen by its tenant only."""

import asyncio
from typing import Any

from chiron.wire.attestation import Role
from tests.api.conftest import Party
from tests.support.caller import CHUNKS, manifest
from tests.support.scripts import silent

ID = "ab" * 16


async def announce(world: Party, **changes: Any) -> Any:
    description = manifest().model_dump(mode="json") | changes
    return await world.owner("POST", "/v1/datasets", json={"manifest": description})


async def test_an_upload_resumes_where_it_stopped(world: Party) -> None:
    assert (await announce(world)).json["received"] == []
    for number in (2, 0):
        await world.owner("PUT", f"/v1/datasets/{ID}/chunks/{number}", data=CHUNKS[number])
    assert (await announce(world)).json["received"] == [0, 2]
    answer = await world.owner("POST", f"/v1/datasets/{ID}/complete")
    assert (answer.status, answer.code) == (409, "dataset-incomplete")
    assert answer.json["missing"] == [1, 3]
    for number in (1, 3):
        await world.owner("PUT", f"/v1/datasets/{ID}/chunks/{number}", data=CHUNKS[number])
    assert (await world.owner("POST", f"/v1/datasets/{ID}/complete")).json["complete"] is True
    assert (await world.owner("GET", f"/v1/datasets/{ID}")).json["received"] == [0, 1, 2, 3]
    assert (await world.owner("GET", "/v1/datasets")).json["items"][0]["digest"] == manifest().digest()


async def test_the_same_chunk_again_is_fine_even_at_once(world: Party) -> None:
    await announce(world)
    puts = [world.owner("PUT", f"/v1/datasets/{ID}/chunks/0", data=CHUNKS[0]) for _ in range(8)]
    assert {answer.status for answer in await asyncio.gather(*puts)} == {204}


async def test_another_chunk_is_refused_and_what_was_stored_stays(world: Party) -> None:
    await announce(world)
    path = f"/v1/datasets/{ID}/chunks/0"
    assert (await world.owner("PUT", path, data=CHUNKS[0])).status == 204
    for wrong in (CHUNKS[1], CHUNKS[0][:-1], b""):
        answer = await world.owner("PUT", path, data=wrong)
        assert (answer.status, answer.code) == (422, "chunk-digest-mismatch")
    assert (await world.owner("PUT", path, data=CHUNKS[0] + b"x")).code == "body-too-large"
    assert (await world.owner("GET", f"/v1/datasets/{ID}")).json["received"] == [0]
    stored = list(world.running.gateway.settings.blob_dir.rglob("*"))
    assert [path.read_bytes() for path in stored if path.is_file()] == [CHUNKS[0]]


async def test_a_chunk_beyond_the_manifest_is_unknown(world: Party) -> None:
    await announce(world)
    assert (await world.owner("PUT", f"/v1/datasets/{ID}/chunks/4", data=b"x")).code == "chunk-unknown"
    assert (await world.owner("PUT", f"/v1/datasets/{ID}/chunks/00", data=b"x")).code == "route-unknown"
    assert (
        await world.owner("PUT", f"/v1/datasets/{'cd' * 16}/chunks/0", data=b"")
    ).code == "dataset-unknown"


async def test_a_dataset_keeps_its_manifest(world: Party) -> None:
    await announce(world)
    assert (await announce(world, examples=39)).code == "dataset-exists"


async def test_a_manifest_that_contradicts_itself_is_refused(world: Party) -> None:
    for changes in ({"examples": 5}, {"classes": 0}, {"chunk_sha256": ["x"]}, {"version": 2}):
        assert (await announce(world, **changes)).code == "invalid-request"


async def test_tenants_do_not_see_each_other_and_may_choose_the_same_id(world: Party) -> None:
    await world.owner.upload_dataset()
    assert (await world.stranger("GET", "/v1/datasets")).json["items"] == []
    assert (await world.stranger("GET", f"/v1/datasets/{ID}")).code == "dataset-unknown"
    put = await world.stranger("PUT", f"/v1/datasets/{ID}/chunks/0", data=CHUNKS[0])
    assert put.code == "dataset-unknown"
    await world.stranger.upload_dataset((b"z" * 1000,))
    assert (await world.owner("GET", f"/v1/datasets/{ID}")).json["chunks"] == 4


async def test_an_upload_that_breaks_off_leaves_nothing(world: Party) -> None:
    await announce(world)
    port = int(world.running.url.rsplit(":", 1)[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    key = world.owner.headers["Authorization"]
    head = f"PUT /v1/datasets/{ID}/chunks/0 HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\n".encode() + CHUNKS[0][:500])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.1)
    assert (await world.owner("GET", f"/v1/datasets/{ID}")).json["received"] == []
    assert not [path for path in world.running.gateway.settings.blob_dir.rglob("*") if path.is_file()]


async def test_a_stored_chunk_that_rots_is_never_served_as_whole(world: Party, component: bytes) -> None:
    world.launcher.backend.scripts = dict.fromkeys(Role, silent)
    await world.create_job(component)
    orders = await world.launcher.launched(3)
    token = next(order.token for order in orders if order.role is Role.TRAINER)
    (stored,) = (world.running.gateway.settings.blob_dir / "datasets").rglob("3")
    stored.write_bytes(b"short")
    answer = await world.as_enclave("GET", f"/datasets/{ID}/chunks/3", token)
    assert (answer.status, answer.code) == (500, "storage-damaged")
