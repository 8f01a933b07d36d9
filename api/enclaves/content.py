"""What an enclave reads and stores: its own job's builder, dataset and objects, and nothing else."""

from aiohttp import web

from chiron.api.bodies import pieces
from chiron.api.enclaves.callers import ALL, TRAINERS, TRAINING
from chiron.api.errors import BuilderUnknown, DatasetUnknown, JobEnded, RequestInvalid
from chiron.api.jobs.enclave import LaunchedEnclave
from chiron.api.jobs.quota import object_limit
from chiron.api.operations import Call, Routes
from chiron.api.streams import send_blob
from chiron.wire import paths
from chiron.wire.attestation import Role
from chiron.wire.datasets import DatasetManifest
from chiron.wire.enclave_api import Progress
from chiron.wire.jobs import TERMINAL_STATES, JobState

routes = Routes()
OCTETS = "application/octet-stream"
_MAX_OBJECT_BYTES = 2**33
_REPORTABLE = frozenset(JobState) - {JobState.CREATED, JobState.LAUNCHING, JobState.CANCELLED}


@routes.add("GET", paths.ENCLAVE_BUILDER, roles=TRAINERS, answer="application/wasm")
async def builder(call: Call[LaunchedEnclave, None]) -> web.StreamResponse:
    """Fetch the job's builder."""
    sha256 = call.path("sha256")
    if sha256 != call.caller.spec.builder_sha256:
        raise BuilderUnknown("this is not the job's builder")
    info = await call.gateway.builders.info(sha256)
    return await send_blob(call.request, info.size, call.gateway.builders.component(info))


@routes.add("GET", paths.ENCLAVE_DATASET, roles=TRAINERS, answer=DatasetManifest)
async def dataset(call: Call[LaunchedEnclave, None]) -> DatasetManifest:
    """Fetch the manifest of the job's dataset."""
    return await call.gateway.datasets.manifest(call.caller.tenant, _dataset(call))


@routes.add("GET", paths.ENCLAVE_DATASET_CHUNK, roles=TRAINERS, answer=OCTETS)
async def chunk(call: Call[LaunchedEnclave, None]) -> web.StreamResponse:
    """Fetch a chunk of the job's dataset."""
    number = int(call.path("number"))
    size, content = await call.gateway.datasets.chunk(call.caller.tenant, _dataset(call), number)
    return await send_blob(call.request, size, content)


@routes.add(
    "PUT",
    paths.ENCLAVE_OBJECT,
    roles=ALL,
    streams=OCTETS,
    limit=lambda _limits: _MAX_OBJECT_BYTES,
)
async def put_object(call: Call[LaunchedEnclave, None]) -> None:
    """Store a sealed object of the job, of the names and sizes that its spec implies."""
    enclave, name = call.caller, call.path("name")
    limit = object_limit(enclave.spec, name, enclave.role, enclave.index, taking=enclave.taking)
    trains = enclave.role is not Role.PREDICTOR
    if trains and await call.gateway.records.state(enclave.spec.job) in TERMINAL_STATES:
        raise JobEnded("the job is over: what it made stays as it is")
    body = pieces(call.request, limit, call.gateway.settings.timing.body_s)
    size = await call.gateway.objects.put(enclave.spec.job, name, limit, body)
    call.gateway.metrics.stored_bytes.labels("object").inc(size)


@routes.add("GET", paths.ENCLAVE_OBJECT, roles=ALL, answer=OCTETS)
async def get_object(call: Call[LaunchedEnclave, None]) -> web.StreamResponse:
    """Fetch a sealed object of the job."""
    size, content = await call.gateway.objects.get(call.caller.spec.job, call.path("name"))
    return await send_blob(call.request, size, content)


@routes.add("POST", paths.ENCLAVE_PROGRESS, roles=TRAINING, body=Progress)
async def progress(call: Call[LaunchedEnclave, Progress]) -> None:
    """Report the public schedule's progress; states only go forward."""
    enclave, body = call.caller, call.body
    if body.state not in _REPORTABLE:
        raise RequestInvalid(f"state: an enclave does not report {body.state}")
    if (body.failure is not None) != (body.state is JobState.FAILED):
        raise RequestInvalid("failure: given exactly with the state failed")
    if body.state is JobState.SUCCEEDED and enclave.role is not Role.PARAMETER_SERVER:
        raise RequestInvalid("state: the parameter server reports the end")
    await call.gateway.supervisor.advance(enclave.spec.job, body.state, body.exchanges_done, body.failure)


def _dataset(call: Call[LaunchedEnclave, None]) -> str:
    dataset_id = call.path("id")
    if dataset_id != call.caller.spec.dataset.dataset_id:
        raise DatasetUnknown("this is not the job's dataset")
    return dataset_id
