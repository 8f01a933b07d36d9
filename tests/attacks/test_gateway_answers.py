"""A gateway that answers something else than was asked for: the owner's client takes none of it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import BaseModel

from chiron import AsyncClient, GatewayMisbehaved, OwnerStore, SpecMismatch
from chiron.client.datasets import ArraySource, Encrypted, encrypt
from chiron.client.store import JobRecord
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.jobs import Job, JobState
from chiron.wire.public_api import BuilderInfo, DatasetStatus, PredictorStatus
from tests.support.caller import BUILDER_MANIFEST
from tests.support.specs import job_spec

ASKED, OTHER = "a" * 32, "b" * 32
MANIFEST = json.dumps(BUILDER_MANIFEST).encode()
COMPONENT = b"\0asm"


class Liar:
    """A gateway that answers what it was told to, by a request's method and its path's last word."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], BaseModel | bytes] = {}

    async def answer(self, request: web.Request) -> web.Response:
        told = self.answers.get((request.method, request.path.rsplit("/", 1)[1]))
        if told is None:
            return web.Response(status=204)
        if isinstance(told, bytes):
            return web.Response(body=told, content_type="text/event-stream")
        return web.Response(text=told.model_dump_json(), content_type="application/json")


@pytest.fixture
async def liar() -> Liar:
    return Liar()


@pytest.fixture
async def owner(liar: Liar, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", liar.answer)
    async with (
        TestServer(app) as server,
        AsyncClient(str(server.make_url("")), "key", store=OwnerStore(tmp_path / "home")) as client,
    ):
        yield client


@pytest.fixture
def encrypted(owner: AsyncClient, tmp_path: Path) -> Encrypted:
    source = ArraySource([[0.5], [1.5], [2.5], [3.5]], ["a", "b", "a", "b"])
    return encrypt(source, tmp_path / "bundle", owner.store)


def job(name: str, **changes: Any) -> Job:
    spec = job_spec(job=name, **changes)
    return Job(spec=spec, state=JobState.CANCELLED, created_at="2026-01-01T00:00:00Z")


def status(encrypted: Encrypted, **changes: Any) -> DatasetStatus:
    manifest = encrypted.bundle.manifest
    told = DatasetStatus(
        dataset_id=manifest.dataset_id,
        digest=manifest.digest(),
        chunks=manifest.chunks,
        received=(),
        complete=True,
        created_at="2026-01-01T00:00:00Z",
    )
    return told.model_copy(update=changes)


async def test_another_job_is_not_taken_for_the_one_that_was_asked_for(
    liar: Liar, owner: AsyncClient
) -> None:
    event = f"id: 1\nevent: job\ndata: {job(OTHER).model_dump_json()}\n\n".encode()
    liar.answers = {
        ("GET", ASKED): job(OTHER),
        ("POST", "cancel"): job(OTHER),
        ("GET", "events"): event,
    }
    with pytest.raises(GatewayMisbehaved, match="another job"):
        await owner.job(ASKED)
    with pytest.raises(GatewayMisbehaved, match="another job"):
        await owner.cancel(ASKED)
    with pytest.raises(GatewayMisbehaved, match="another job"):
        async for _ in owner.watch(ASKED):
            pass


async def test_a_job_whose_spec_changed_since_it_was_created_is_refused(
    liar: Liar, owner: AsyncClient
) -> None:
    owner.store.save_job(
        JobRecord(spec=job(ASKED).spec, owner_key=PrivateKey.generate().private_bytes, share=bytes(32))
    )
    liar.answers[("GET", ASKED)] = job(ASKED, seed=99)
    with pytest.raises(SpecMismatch, match="another spec"):
        await owner.job(ASKED)
    liar.answers[("GET", ASKED)] = job(ASKED)
    assert (await owner.job(ASKED)).spec.job == ASKED


@pytest.mark.parametrize(
    "lie",
    [{"dataset_id": OTHER}, {"digest": "c" * 64}, {"chunks": 77}, {"received": (99,)}],
    ids=lambda lie: next(iter(lie)),
)
async def test_another_dataset_is_not_taken_for_the_one_that_was_sent(
    liar: Liar, owner: AsyncClient, encrypted: Encrypted, lie: dict[str, Any]
) -> None:
    honest, lying = status(encrypted), status(encrypted, **lie)
    for announced, completed in ((lying, honest), (honest, lying)):
        liar.answers = {
            ("POST", "datasets"): announced,
            ("POST", "complete"): completed,
        }
        with pytest.raises(GatewayMisbehaved):
            await owner.upload_dataset(encrypted.bundle)


async def test_a_dataset_that_is_not_complete_is_no_upload(
    liar: Liar, owner: AsyncClient, encrypted: Encrypted
) -> None:
    liar.answers = {
        ("POST", "datasets"): status(encrypted),
        ("POST", "complete"): status(encrypted, complete=False),
    }
    with pytest.raises(GatewayMisbehaved, match="missing"):
        await owner.upload_dataset(encrypted.bundle)


@pytest.mark.parametrize(
    "lie",
    [{"sha256": "c" * 64}, {"manifest": {**BUILDER_MANIFEST, "version": "6.6.6"}}],
    ids=["digest", "manifest"],
)
async def test_a_builder_that_is_not_published_as_it_was_sent_is_told(
    liar: Liar, owner: AsyncClient, lie: dict[str, Any]
) -> None:
    honest = {
        "sha256": "cd5d4935a48c0672cb06407bb443bc0087aff947c6b864bac886982c73b3027f",
        "publisher": "lab",
        "size": len(COMPONENT),
        "capabilities": [],
        "manifest": BUILDER_MANIFEST,
        "created_at": "2026-01-01T00:00:00Z",
    }
    liar.answers[("POST", "builders")] = BuilderInfo.model_validate(honest)
    assert (await owner.upload_builder(COMPONENT, MANIFEST)).full_name == "lab/tiny@1.0"
    liar.answers[("POST", "builders")] = BuilderInfo.model_validate(honest | lie)
    with pytest.raises(GatewayMisbehaved, match="stored"):
        await owner.upload_builder(COMPONENT, MANIFEST)


@pytest.mark.parametrize(
    "address",
    ["host:1/path", "user@host:1", "host", "host:1?x", "ho st:1", "host:1\r\nX: y", "host:123456", ""],
)
def test_an_address_that_is_more_than_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        PredictorStatus.model_validate({"state": "ready", "address": address})


@pytest.mark.parametrize("address", ["10.0.0.7:8900", "[::1]:8900", "chiron.example:443"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    assert PredictorStatus.model_validate({"state": "ready", "address": address}).address == address
