"""/v1/datasets: owners upload ciphertext, in pieces that can be repeated and resumed."""

from collections.abc import Sequence

from chiron.api.bodies import pieces
from chiron.api.keys import Principal
from chiron.api.operations import Call, Routes
from chiron.api.public.callers import OWNER
from chiron.wire import paths
from chiron.wire.datasets import MAX_CHUNK_BYTES
from chiron.wire.public_api import DatasetStatus, DatasetUpload

routes = Routes()


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
    return await call.gateway.datasets.announce(call.caller.tenant, call.body.manifest)


@routes.add("GET", paths.DATASETS, roles=OWNER, answer=list[DatasetStatus])
async def list_datasets(call: Call[Principal, None]) -> Sequence[DatasetStatus]:
    """List your datasets, newest first."""
    return await call.gateway.datasets.listed(call.caller.tenant)


@routes.add("GET", paths.DATASET, roles=OWNER, answer=DatasetStatus)
async def show_dataset(call: Call[Principal, None]) -> DatasetStatus:
    """Show which chunks were received."""
    return await call.gateway.datasets.status(call.caller.tenant, call.path("id"))


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
