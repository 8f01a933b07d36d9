"""Deletions at the gateway: nobody deletes what is another's or in use, and deleted bytes are gone."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chiron.api.errors import JobUnknown
from chiron.api.keys import TenantRole
from tests.support.caller import CHUNKS, Answer, Caller
from tests.support.party import Party

GRANT = {"sealed": base64.b64encode(b"grant").decode()}
ID = "ab" * 16


def blobs(world: Party, below: str) -> list[Path]:
    root = world.running.gateway.settings.blob_dir / below
    return [path for path in root.rglob("*") if path.is_file()]


async def another_operators_key(world: Party) -> str:
    return await world.running.gateway.keys.create("op-two", TenantRole.OPERATOR)


async def finished(world: Party, component: bytes) -> str:
    job = await world.create_job(component)
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=GRANT)).status == 204
    assert (await world.end_of(job))["state"] == "succeeded"
    return job


async def test_a_deleted_dataset_leaves_no_bytes_and_its_id_is_free(world: Party) -> None:
    await world.owner.upload_dataset()
    assert blobs(world, "datasets")
    assert (await world.owner("DELETE", f"/v1/datasets/{ID}")).status == 204
    assert not blobs(world, "datasets")
    assert (await world.owner("DELETE", f"/v1/datasets/{ID}")).code == "dataset-unknown"
    await world.owner.upload_dataset()
    assert (await world.owner("GET", f"/v1/datasets/{ID}")).json["complete"] is True


async def test_a_chunk_that_arrives_while_its_dataset_is_deleted_leaves_no_bytes(
    world: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.owner.upload_dataset()
    store = world.running.gateway.deletion.blobs
    delete_below = store.delete_below
    arrived: list[Answer] = []

    async def overtaken(prefix: str) -> None:
        await delete_below(prefix)
        if not arrived:
            arrived.append(await world.owner("PUT", f"/v1/datasets/{ID}/chunks/0", data=CHUNKS[0]))

    monkeypatch.setattr(store, "delete_below", overtaken)
    assert (await world.owner("DELETE", f"/v1/datasets/{ID}")).status == 204
    assert arrived[0].status == 204
    assert not blobs(world, "datasets")


async def test_another_tenant_deletes_neither_dataset_nor_job_nor_builder(
    world: Party, component: bytes
) -> None:
    job = await finished(world, component)
    builder = (await world.owner("GET", f"/v1/jobs/{job}")).json["spec"]["builder_sha256"]
    assert (await world.stranger("DELETE", f"/v1/datasets/{ID}")).code == "dataset-unknown"
    assert (await world.stranger("DELETE", f"/v1/jobs/{job}")).code == "job-unknown"
    for path in (f"/v1/datasets/{ID}", f"/v1/jobs/{job}"):
        assert (await world.operator("DELETE", path)).code == "forbidden"
    assert (await world.owner("DELETE", f"/v1/builders/{builder}")).code == "forbidden"
    other = Caller(world.nobody.session, world.nobody.url, await another_operators_key(world))
    assert (await other("DELETE", f"/v1/builders/{builder}")).code == "forbidden"
    assert blobs(world, "datasets")
    assert blobs(world, "jobs")
    assert blobs(world, "builders")


async def test_the_same_id_of_another_tenant_is_not_deleted_along(world: Party) -> None:
    await world.owner.upload_dataset()
    await world.stranger.upload_dataset()
    assert (await world.stranger("DELETE", f"/v1/datasets/{ID}")).status == 204
    assert (await world.owner("GET", f"/v1/datasets/{ID}")).json["complete"] is True
    assert len(blobs(world, "datasets")) == len(CHUNKS)


async def test_what_a_running_job_uses_is_not_deleted(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    builder = (await world.owner("GET", f"/v1/jobs/{job}")).json["spec"]["builder_sha256"]
    assert (await world.owner("DELETE", f"/v1/datasets/{ID}")).code == "dataset-in-use"
    assert (await world.owner("DELETE", f"/v1/jobs/{job}")).code == "job-in-use"
    assert (await world.operator("DELETE", f"/v1/builders/{builder}")).code == "builder-in-use"
    await world.owner("POST", f"/v1/jobs/{job}/cancel")
    for caller, path in (
        (world.owner, f"/v1/jobs/{job}"),
        (world.owner, f"/v1/datasets/{ID}"),
        (world.operator, f"/v1/builders/{builder}"),
    ):
        assert (await caller("DELETE", path)).status == 204


async def test_a_job_with_a_running_predictor_is_not_deleted(world: Party, component: bytes) -> None:
    job = await finished(world, component)
    assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
    assert (await world.owner("DELETE", f"/v1/jobs/{job}")).code == "job-in-use"
    await world.owner("DELETE", f"/v1/jobs/{job}/predictor")
    assert (await world.owner("DELETE", f"/v1/jobs/{job}")).status == 204
    assert not blobs(world, "jobs")
    assert (await world.owner("GET", f"/v1/jobs/{job}")).code == "job-unknown"
    assert (await world.owner("DELETE", f"/v1/jobs/{job}")).code == "job-unknown"


async def test_no_other_component_takes_a_deleted_builders_name(world: Party, component: bytes) -> None:
    sha = (await world.operator.upload_builder(component)).json["sha256"]
    assert (await world.operator("DELETE", f"/v1/builders/{sha}")).status == 204
    assert not blobs(world, "builders")
    assert (await world.operator("GET", "/v1/builders")).json["items"] == []
    # A custom section makes it another component.
    other = component + b"\x00\x03\x01x\x00"
    assert (await world.operator.upload_builder(other)).code == "builder-exists"
    assert not blobs(world, "builders"), "what was refused left its bytes"
    assert (await world.operator.upload_builder(component)).status == 201
    assert (await world.operator("GET", f"/v1/builders/{sha}")).status == 200


async def test_an_enclaves_late_write_into_a_deleted_job_leaves_nothing(
    world: Party, component: bytes
) -> None:
    job = await finished(world, component)
    assert (await world.owner("DELETE", f"/v1/jobs/{job}")).status == 204

    async def content() -> AsyncIterator[bytes]:
        yield b"late"

    with pytest.raises(JobUnknown):
        await world.running.gateway.objects.put(job, "model", 100, content())
    assert not blobs(world, "jobs")
