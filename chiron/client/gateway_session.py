"""The gateway's public HTTP interface, verb for verb: answers are parsed strictly and trusted for nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, TypeAdapter, ValidationError

from chiron.client.errors import GatewayError, GatewayMisbehaved, GatewayUnreachable, SealedElsewhere
from chiron.wire import codes, paths
from chiron.wire.attestation import Evidence, Role
from chiron.wire.bounded import read_stream
from chiron.wire.codes import Problem
from chiron.wire.datasets import DatasetManifest
from chiron.wire.enclave_api import ObjectInfo, Observation, SealedMessage
from chiron.wire.errors import LimitExceeded
from chiron.wire.jobs import Job, JobRequest
from chiron.wire.machines import MachineDemand, MachineEvidence
from chiron.wire.public_api import (
    BuilderInfo,
    DatasetStatus,
    DatasetUpload,
    EvidenceDemand,
    GuestKey,
    GuestRequest,
    ImageInfo,
    Page,
    PredictorStatus,
    UpgradeDemand,
    UpgradeStart,
)
from chiron.wire.retrying import Backoff, retry

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_Listed = TypeVar("_Listed", bound=BaseModel)
PAGE_ITEMS = 1000
MAX_LISTED = 2_000_000
"""Items of one list over all its pages: a longer one is taken for a list without end."""
MAX_ANSWER_BYTES = 128 * 2**20
"""A job's spec holds one digest a chunk; a sealed answer may be as large as a chunk."""
MAX_LISTED_BYTES = 4 * MAX_ANSWER_BYTES
"""Bytes of one list over all its pages."""
MAX_IMAGES_BYTES = 2 * 2**20
"""Measurements and their inclusion proofs."""
PACED_S = 60.0
"""How long a request waits for its turn at a gateway that we ask too fast."""
REPEATED_S = 2.0
"""How long requests that may be repeated are: reads, and uploads of content-addressed bytes."""


class Event(NamedTuple):
    """One server-sent event (WHATWG HTML, 9.2.6); several data lines are joined."""

    id: str | None = None
    data: str = ""

    def with_line(self, line: str) -> "Event":
        """The event with one more of its lines."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            return self._replace(data=f"{self.data}\n{value}" if self.data else value)
        return self._replace(id=value) if name == "id" else self


class GatewaySession:
    """One connection pool with one API key. Use as an async context manager."""

    def __init__(self, url: str, api_key: str | None, connector: aiohttp.BaseConnector | None = None) -> None:
        """Without a key where the peer is no gateway but an enclave that serves the same paths."""
        self.url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=120),
            read_bufsize=2**20,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, path: str, model: type[_Answer]) -> _Answer:
        """GET a JSON answer; repeated if the connection fails.

        Raises:
            GatewayError: as every method here: refused, unreachable or misbehaved.
        """
        return _parse(await self.fetch(path), model)

    async def listed(self, path: str, page: type[Page[_Listed]]) -> list[_Listed]:
        """GET every page of a list."""
        found: list[_Listed] = []
        left = MAX_LISTED_BYTES
        asked = f"{path}?limit={PAGE_ITEMS}"
        while True:
            body = await self.fetch(asked)
            left -= len(body)
            part = _parse(body, page)
            found += part.items
            if part.next is None:
                return found
            if not part.items or len(found) > MAX_LISTED or left < 0:
                raise GatewayMisbehaved("the gateway's list has no end")
            asked = f"{path}?limit={PAGE_ITEMS}&cursor={quote(part.next, safe='')}"

    async def fetch(self, path: str, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """GET bytes, at most `limit`; repeated if the connection fails."""
        return await self._repeated("GET", path, limit=limit)

    async def put(self, path: str, data: bytes) -> None:
        """PUT bytes; repeated if the connection fails, as every PUT of the interface may be."""
        await self._repeated("PUT", path, data=data, headers={"Content-Type": "application/octet-stream"})

    async def delete(self, path: str) -> None:
        """DELETE; repeated if the connection fails."""
        await self._repeated("DELETE", path)

    async def post(self, path: str, body: BaseModel | None = None) -> bytes:
        """POST JSON, or nothing, once."""
        if body is None:
            return await self._request("POST", path)
        headers = {"Content-Type": "application/json"}
        return await self._request("POST", path, data=body.model_dump_json().encode(), headers=headers)

    async def upload_builder(self, manifest: bytes, component: bytes) -> BuilderInfo:
        """POST /v1/builders."""
        form = aiohttp.FormData()
        form.add_field("manifest", manifest, content_type="application/json", filename="manifest.json")
        form.add_field("component", component, content_type="application/wasm", filename="builder.wasm")
        return _parse(await self._once("POST", paths.BUILDERS, data=form), BuilderInfo)

    async def create_dataset(self, manifest: DatasetManifest) -> DatasetStatus:
        """POST /v1/datasets."""
        return _parse(await self.post(paths.DATASETS, DatasetUpload(manifest=manifest)), DatasetStatus)

    async def dataset(self, dataset_id: str) -> DatasetStatus:
        """GET /v1/datasets/{id}."""
        return await self.get(paths.DATASET.of(dataset_id), DatasetStatus)

    async def complete_dataset(self, dataset_id: str) -> DatasetStatus:
        """POST /v1/datasets/{id}/complete."""
        return _parse(await self.post(paths.DATASET_COMPLETE.of(dataset_id)), DatasetStatus)

    async def create_job(self, request: JobRequest) -> Job:
        """POST /v1/jobs."""
        return _parse(await self.post(paths.JOBS, request), Job)

    async def job(self, job_id: str) -> Job:
        """GET /v1/jobs/{id}."""
        return the_job(job_id, await self.get(paths.JOB.of(job_id), Job))

    async def cancel(self, job_id: str) -> Job:
        """POST /v1/jobs/{id}/cancel."""
        return the_job(job_id, _parse(await self.post(paths.JOB_CANCEL.of(job_id)), Job))

    async def evidence(self, job_id: str, role: Role, nonce: bytes, *, giver: bool = False) -> Evidence:
        """POST /v1/jobs/{id}/evidence: evidence over our nonce; not verified here."""
        demand = EvidenceDemand.model_validate({"role": role, "nonce": nonce, "giver": giver})
        return _parse(await self.post(paths.JOB_EVIDENCE.of(job_id), demand), Evidence)

    async def machine(self, nonce: bytes) -> MachineEvidence:
        """POST /v1/machine: the key of its machine, in evidence over our nonce; not verified here."""
        return _parse(await self.post(paths.MACHINE, MachineDemand(nonce=nonce)), MachineEvidence)

    async def images(self) -> list[ImageInfo]:
        """GET /v1/images: enclave code that it can launch, the current one first."""
        return _parse(await self.fetch(paths.IMAGES, limit=MAX_IMAGES_BYTES), list[ImageInfo])

    async def start_predictor(self, job_id: str, measurement: str | None = None) -> PredictorStatus:
        """POST /v1/jobs/{id}/predictor: nothing happens if it runs; `measurement` is of older code."""
        path = paths.JOB_PREDICTOR.of(job_id)
        if measurement:
            path = paths.JOB_PREDICTOR_OF_IMAGE.of(job_id, measurement)
        return _parse(await self.post(path), PredictorStatus)

    async def predictor(self, job_id: str) -> PredictorStatus:
        """GET /v1/jobs/{id}/predictor."""
        return await self.get(paths.JOB_PREDICTOR.of(job_id), PredictorStatus)

    async def stop_predictor(self, job_id: str) -> None:
        """DELETE /v1/jobs/{id}/predictor."""
        await self._request("DELETE", paths.JOB_PREDICTOR.of(job_id))

    async def invite_guest(self, job_id: str, expires_at: int, label: str) -> GuestKey:
        """POST /v1/jobs/{id}/guests: an API key for somebody who may ask this job's predictor."""
        request = GuestRequest(expires_at=expires_at, label=label)
        return _parse(await self.post(paths.JOB_GUESTS.of(job_id), request), GuestKey)

    async def dismiss_guest(self, job_id: str, key_id: str) -> None:
        """DELETE /v1/jobs/{id}/guests/{key_id}."""
        await self._request("DELETE", paths.JOB_GUEST.of(job_id, key_id))

    async def begin_upgrade(self, job_id: str, giver: str) -> None:
        """POST /v1/jobs/{id}/upgrade: start code of the giver's measurement, and code that waits."""
        await self.post(paths.JOB_UPGRADE.of(job_id), UpgradeStart(giver=giver))

    async def order_upgrade(self, job_id: str, demand: UpgradeDemand) -> None:
        """POST /v1/jobs/{id}/upgrade/order."""
        await self.post(paths.JOB_UPGRADE_ORDER.of(job_id), demand)

    async def relay(self, path: str, sealed: bytes) -> bytes:
        """POST ciphertext for an enclave; returns the body of its answer."""
        return await self.post(path, SealedMessage(sealed=sealed))

    async def objects(self, job_id: str) -> list[ObjectInfo]:
        """GET /v1/jobs/{id}/objects."""
        return await self.listed(paths.JOB_OBJECTS.of(job_id), Page[ObjectInfo])

    async def observations(self, job_id: str) -> list[Observation]:
        """GET /v1/jobs/{id}/observations."""
        return await self.listed(paths.JOB_OBSERVATIONS.of(job_id), Page[Observation])

    async def events(self, path: str, after: str | None = None) -> AsyncIterator[Event]:
        """Server-sent events at `path` after the one with that id, until the gateway ends the stream."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        try:
            async with self._session.get(self.url + path, headers=headers) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await _read(response, MAX_ANSWER_BYTES))
                event = Event()
                async for line in _lines(response):
                    if line:
                        event = event.with_line(line)
                    elif event.data:
                        yield event
                        event = Event()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise GatewayUnreachable(self.url) from error

    async def _repeated(self, method: str, path: str, **options: Any) -> bytes:
        backoff = Backoff(REPEATED_S, first_pause_s=0.2)
        return await retry(lambda: self._request(method, path, **options), is_away, backoff)

    async def _request(self, method: str, path: str, **options: Any) -> bytes:
        """Once; but as often as the gateway says that we ask too fast, when it has done nothing."""
        backoff = Backoff(PACED_S, first_pause_s=0.5)
        return await retry(lambda: self._once(method, path, **options), _too_fast, backoff)

    async def _once(self, method: str, path: str, *, limit: int = MAX_ANSWER_BYTES, **options: Any) -> bytes:
        try:
            async with self._session.request(method, self.url + path, **options) as response:
                body = await _read(response, limit)
                if response.status >= 400:
                    raise _refusal(response.status, body)
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise GatewayUnreachable(self.url) from error


def is_away(error: Exception) -> bool:
    """Whether the gateway is gone or about to stop: it may be back soon, as it was."""
    return isinstance(error, GatewayUnreachable) or (isinstance(error, GatewayError) and error.status == 503)


def _too_fast(error: Exception) -> bool:
    return isinstance(error, GatewayError) and error.code == codes.TOO_MANY_REQUESTS


def the_job(asked: str, answered: Job) -> Job:
    """The job, if it is the one that was asked for.

    Raises:
        GatewayMisbehaved: it is another.
    """
    if answered.spec.job != asked:
        raise GatewayMisbehaved("the gateway answered with another job than was asked for")
    return answered


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    try:
        return await read_stream(response.content.iter_any(), limit)
    except LimitExceeded as error:
        raise GatewayMisbehaved(f"the gateway's answer exceeds {limit} bytes") from error


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    pending = b""
    async for piece in response.content.iter_any():
        *lines, pending = (pending + piece).split(b"\n")
        if len(pending) > MAX_ANSWER_BYTES:
            raise GatewayMisbehaved("the gateway sent an event without end")
        for line in lines:
            yield line.rstrip(b"\r").decode(errors="replace")


def _parse(body: bytes, model: type[_Answer]) -> _Answer:
    try:
        return TypeAdapter(model).validate_json(body)
    except ValidationError as error:
        raise GatewayMisbehaved("the gateway's answer does not follow its interface") from error


def _refusal(status: int, body: bytes) -> GatewayError:
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return GatewayError("gateway-error", status, f"HTTP status {status}")
    if problem.code == codes.SEALED_ELSEWHERE:
        return SealedElsewhere(status)
    return GatewayError(problem.code, status, problem.detail or problem.title)


async def each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], *, at_once: int) -> None:
    """Do `work` for each item, `at_once` at a time, begun in order.

    Raises:
        Exception: the first that `work` raised; what else was under way is cancelled.
    """
    upcoming = iter(items)

    async def worker() -> None:
        for item in upcoming:
            await work(item)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(at_once):
                workers.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
