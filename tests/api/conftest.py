"""A real gateway on loopback and a real Unix socket, with simulated enclaves."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import wasmtime

from chiron.api.keys import TenantRole
from chiron.api.server import RunningGateway, running_gateway
from chiron.api.settings import Limits, Settings, Timing
from chiron.wire.datasets import DatasetManifest
from tests.api.simulator import SimulatedLauncher

CHUNKS = tuple(bytes([number]) * 1000 for number in range(4))
BUILDER_MANIFEST = {
    "name": "tiny",
    "version": "1.0",
    "tasks": ["classification"],
    "max_input_elements": 64,
    "envelope": {"max_parameters": 1000},
}


def manifest(chunks: tuple[bytes, ...] = CHUNKS, dataset_id: str = "ab" * 16) -> DatasetManifest:
    """Of a dataset whose ciphertext is `chunks`."""
    return DatasetManifest(
        dataset_id=dataset_id,
        task="classification",
        input_shape=(8, 8),
        input_dtype="uint8",
        classes=10,
        examples=10 * len(chunks),
        chunk_examples=10,
        chunk_ciphertext_bytes=1000,
        chunk_sha256=tuple(sha256(chunk).hexdigest() for chunk in chunks),
    )


@dataclass
class Answer:
    """Status and parsed body."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        """Of a problem, which must be one."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.raw
        assert self.json["status"] == self.status
        return str(self.json["code"])


class Caller:
    """Speaks to the public API with one key."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None) -> None:
        self.session = session
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __call__(self, method: str, path: str, **options: Any) -> Answer:
        headers = self.headers | options.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def upload_builder(self, component: bytes, **changes: Any) -> Answer:
        form = aiohttp.FormData()
        form.add_field("manifest", json.dumps(BUILDER_MANIFEST | changes), filename="m.json")
        form.add_field("component", component, filename="b.wasm")
        return await self("POST", "/v1/builders", data=form)

    async def upload_dataset(self, chunks: tuple[bytes, ...] = CHUNKS, dataset_id: str = "ab" * 16) -> str:
        description = manifest(chunks, dataset_id).model_dump(mode="json")
        answer = await self("POST", "/v1/datasets", json={"manifest": description})
        assert answer.status == 201, answer.raw
        for number, chunk in enumerate(chunks):
            put = await self("PUT", f"/v1/datasets/{dataset_id}/chunks/{number}", data=chunk)
            assert put.status == 204, put.raw
        assert (await self("POST", f"/v1/datasets/{dataset_id}/complete")).status == 200
        return dataset_id


@dataclass
class Party:
    """A running gateway and everybody who speaks to it."""

    running: RunningGateway
    launcher: SimulatedLauncher
    operator: Caller
    owner: Caller
    stranger: Caller
    """An owner of another tenant."""
    nobody: Caller
    enclaves: aiohttp.ClientSession
    """Speaks to the enclave-facing socket."""

    async def as_enclave(self, method: str, path: str, token: str | None, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://gateway/enclave/v1{path}"
        async with self.enclaves.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def prepare(self, component: bytes) -> dict[str, Any]:
        """A builder and a dataset, and the request of a job with them."""
        builder = await self.operator.upload_builder(component)
        assert builder.status == 201, builder.raw
        dataset = await self.owner.upload_dataset()
        sha = builder.json["sha256"]
        return {"dataset_id": dataset, "builder_sha256": sha, "trainers": 2, "exchanges": 3}

    async def create_job(self, component: bytes, **changes: Any) -> str:
        answer = await self.owner("POST", "/v1/jobs", json=await self.prepare(component) | changes)
        assert answer.status == 201, answer.raw
        return str(answer.json["spec"]["job"])

    async def events(self, job: str, after: int = 0, caller: Caller | None = None) -> list[dict[str, Any]]:
        """All events until the job's end."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        answer = await (caller or self.owner)("GET", f"/v1/jobs/{job}/events", headers=headers)
        assert answer.status == 200, answer.raw
        found = []
        for block in answer.raw.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append(json.loads(fields["data"]) | {"sequence": int(fields["id"])})
        return found

    async def end_of(self, job: str) -> dict[str, Any]:
        """The job's last event."""
        return (await self.events(job))[-1]


def settings_in(directory: Path, **changes: Any) -> Settings:
    """Fast settings; the socket's path must be short."""
    timing = Timing(relay_s=3, enclave_stop_s=1, last_trainer_s=0.3, shutdown_s=1, event_keepalive_s=0.2)
    return Settings(
        state_dir=directory, port=0, **({"timing": timing, "limits": Limits(trainers=4)} | changes)
    )


async def party(settings: Settings, launcher: SimulatedLauncher) -> AsyncIterator[Party]:
    """Everybody, around a gateway with `settings`."""
    async with (
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(settings.socket_path))) as enclaves,
        running_gateway(settings, launcher) as running,
    ):
        create = running.gateway.keys.create
        keys = [
            await create("op", TenantRole.OPERATOR),
            await create("hospital", TenantRole.OWNER),
            await create("rival", TenantRole.OWNER),
            None,
        ]
        operator, owner, stranger, nobody = (Caller(session, running.url, key) for key in keys)
        yield Party(running, launcher, operator, owner, stranger, nobody, enclaves)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def launcher(settings: Settings) -> SimulatedLauncher:
    return SimulatedLauncher(settings.socket_path)


@pytest.fixture
async def world(settings: Settings, launcher: SimulatedLauncher) -> AsyncIterator[Party]:
    async for everybody in party(settings, launcher):
        yield everybody


@pytest.fixture(scope="session")
def component() -> bytes:
    """A real component of the builders' world, the smallest there is."""
    return bytes(wasmtime.wat2wasm((Path(__file__).parent / "tiny_builder.wat").read_text()))
