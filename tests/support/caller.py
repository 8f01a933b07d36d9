"""The public API in the raw: requests that no client would send, and answers as they came."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiohttp

from chiron.wire.datasets import DatasetManifest
from tests.support.specs import DIGITS, dataset_manifest

CHUNKS = tuple(bytes([number]) * 1000 for number in range(4))
BUILDER_MANIFEST = {
    "name": "tiny",
    "version": "1.0",
    "tasks": ["classification"],
    "max_input_elements": 64,
    "envelope": {"max_parameters": 1000},
}
"""As it is sent."""


def manifest(chunks: tuple[bytes, ...] = CHUNKS, dataset_id: str = "ab" * 16) -> DatasetManifest:
    """Of a dataset whose ciphertext is `chunks`."""
    digests = tuple(sha256(chunk).hexdigest() for chunk in chunks)
    return dataset_manifest(dataset_id=dataset_id, examples=10 * len(chunks), chunk_sha256=digests, **DIGITS)


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


async def prepared(operator: Caller, owner: Caller, component: bytes) -> dict[str, Any]:
    """A builder and a dataset, and the request of a job with them."""
    builder = await operator.upload_builder(component)
    assert builder.status == 201, builder.raw
    dataset = await owner.upload_dataset()
    sha = builder.json["sha256"]
    return {"dataset_id": dataset, "builder_sha256": sha, "trainers": 2, "exchanges": 3}


async def created_job(owner: Caller, request: dict[str, Any]) -> str:
    """The identifier of the job that was asked for."""
    answer = await owner("POST", "/v1/jobs", json=request)
    assert answer.status == 201, answer.raw
    return str(answer.json["spec"]["job"])
