"""/v1/builders and /v1/datasets: operators publish components, owners upload ciphertext.

A dataset comes in pieces that can be repeated and resumed.
"""

import asyncio

from aiohttp import BodyPartReader, MultipartReader, web

from chiron.api.bodies import parse_json, pieces
from chiron.api.errors import BodyTooLarge, RequestInvalid, RequestTimeout
from chiron.api.keys import OPERATOR, OWNER, READERS, Principal
from chiron.api.operations import Call, Routes
from chiron.api.quotas import Held
from chiron.api.rates import MANIFEST_UNIT
from chiron.wire import paths
from chiron.wire.contract import BuilderManifest
from chiron.wire.datasets import MAX_CHUNK_BYTES
from chiron.wire.public_api import BuilderInfo, DatasetStatus, DatasetSummary, DatasetUpload, Page

routes = Routes()
_MULTIPART_OVERHEAD = 16 * 1024
_CHUNK_BYTES = 67
"""Of a manifest, for each chunk."""


@routes.add(
    "POST",
    paths.BUILDERS,
    roles=OPERATOR,
    streams="multipart/form-data",
    answer=BuilderInfo,
    status=201,
    limit=lambda limits: limits.component_bytes + limits.builder_manifest_bytes + _MULTIPART_OVERHEAD,
)
async def publish(call: Call[Principal, None]) -> BuilderInfo:
    """Publish a builder: parts `manifest` (JSON) and `component` (WebAssembly)."""
    limits = call.gateway.settings.limits
    allowed = {"manifest": limits.builder_manifest_bytes, "component": limits.component_bytes}
    try:
        async with asyncio.timeout(call.gateway.settings.timing.body_s):
            parts = await _read_parts(call, allowed)
    except TimeoutError:
        raise RequestTimeout("the upload did not arrive in time") from None
    manifest = parse_json(BuilderManifest, parts["manifest"])
    storage, tenant = call.gateway.storage, call.caller.tenant
    async with storage.room_for(tenant, len(parts["component"])):
        info = await call.gateway.builders.add(tenant, manifest, parts["component"])
    storage.recount(tenant)
    call.gateway.metrics.stored_bytes.labels("builder").inc(info.size)
    return info


@routes.add("GET", paths.BUILDERS, roles=READERS, answer=Page[BuilderInfo])
async def list_builders(call: Call[Principal, None]) -> Page[BuilderInfo]:
    """List the builders, newest first."""
    return await call.gateway.builders.listed(call.page())


@routes.add("DELETE", paths.BUILDER, roles=OPERATOR)
async def delete_builder(call: Call[Principal, None]) -> None:
    """Delete a builder that you published; refused while a job runs it. Its name and version stay taken."""
    await call.gateway.deletion.builder(call.caller.tenant, call.path("sha256"))
    call.gateway.storage.recount(call.caller.tenant)


@routes.add("GET", paths.BUILDER, roles=READERS, answer=BuilderInfo)
async def show_builder(call: Call[Principal, None]) -> BuilderInfo:
    """Show a builder and the capabilities that it asks for."""
    return await call.gateway.builders.info(call.path("sha256"))


async def _read_parts(call: Call[Principal, None], allowed: dict[str, int]) -> dict[str, bytes]:
    """Exactly the parts of `allowed`, each within its bytes."""
    request = call.request
    if not request.content_type.startswith("multipart/"):
        raise RequestInvalid("send multipart/form-data with the parts manifest and component")
    found: dict[str, bytes] = {}
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, MultipartReader) or part.name not in allowed or part.name in found:
                raise RequestInvalid("the parts are manifest and component, each once")
            found[part.name] = await _read_part(part, allowed[part.name], call.held)
    except (ValueError, AssertionError, web.HTTPException, UnicodeDecodeError) as error:
        raise RequestInvalid("the multipart body is malformed") from error
    for name in allowed:
        if name not in found:
            raise RequestInvalid(f"{name}: this part is missing")
    return found


async def _read_part(part: BodyPartReader, limit: int, held: Held) -> bytes:
    content = bytearray()
    while piece := await part.read_chunk(256 * 1024):
        held.add(len(piece))
        content += piece
        if len(content) > limit:
            raise BodyTooLarge(f"{part.name}: at most {limit} bytes are taken here")
    return bytes(content)


@routes.add(
    "POST",
    paths.DATASETS,
    roles=OWNER,
    body=DatasetUpload,
    answer=DatasetStatus,
    status=201,
    limit=lambda limits: limits.manifest_bytes,
)
async def announce(call: Call[Principal, DatasetUpload]) -> DatasetStatus:
    """Announce a dataset by its manifest; the same manifest again resumes the upload."""
    size = len(call.body.manifest.chunk_sha256) * _CHUNK_BYTES
    call.gateway.rates.charge(call.caller, size, MANIFEST_UNIT)
    return await call.gateway.datasets.announce(call.caller.tenant, call.body.manifest)


@routes.add("GET", paths.DATASETS, roles=OWNER, answer=Page[DatasetSummary])
async def list_datasets(call: Call[Principal, None]) -> Page[DatasetSummary]:
    """List your datasets, newest first."""
    return await call.gateway.datasets.listed(call.caller.tenant, call.page())


@routes.add("GET", paths.DATASET, roles=OWNER, answer=DatasetStatus)
async def show_dataset(call: Call[Principal, None]) -> DatasetStatus:
    """Show which chunks were received."""
    return await call.gateway.datasets.status(call.caller.tenant, call.path("id"))


@routes.add("DELETE", paths.DATASET, roles=OWNER)
async def delete_dataset(call: Call[Principal, None]) -> None:
    """Delete a dataset's ciphertext; refused while a job reads it."""
    await call.gateway.deletion.dataset(call.caller.tenant, call.path("id"))
    call.gateway.storage.recount(call.caller.tenant)


@routes.add(
    "PUT",
    paths.DATASET_CHUNK,
    roles=OWNER,
    streams="application/octet-stream",
    limit=lambda limits: MAX_CHUNK_BYTES,
)
async def put_chunk(call: Call[Principal, None]) -> None:
    """Store a chunk whose SHA-256 is the manifest's; the same chunk again is fine."""
    body = pieces(call.request, MAX_CHUNK_BYTES, call.gateway.settings.timing.body_s)
    dataset, number = call.path("id"), int(call.path("number"))
    size = await call.gateway.datasets.put_chunk(call.caller.tenant, dataset, number, body)
    call.gateway.metrics.stored_bytes.labels("dataset-chunk").inc(size)


@routes.add("POST", paths.DATASET_COMPLETE, roles=OWNER, answer=DatasetStatus)
async def complete(call: Call[Principal, None]) -> DatasetStatus:
    """Close the upload; refused with the numbers of the chunks that are missing."""
    return await call.gateway.datasets.complete(call.caller.tenant, call.path("id"))
