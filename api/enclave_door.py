"""The enclaves' door: being up, finding each other, mail, and their own job's things and nothing else."""

import math

from aiohttp import web

from chiron.api.bodies import JSON_CONTENT_TYPE, pieces, send_blob
from chiron.api.errors import BuilderUnknown, DatasetUnknown, EnclaveNotRunning, JobEnded, RequestInvalid
from chiron.api.jobs.fleet import LaunchedEnclave
from chiron.api.jobs.specification import object_limit
from chiron.api.machines import AskedMachine
from chiron.api.operations import Call, Routes
from chiron.api.problems import STARTED
from chiron.api.settings import Limits
from chiron.wire import paths
from chiron.wire.attestation import Role
from chiron.wire.datasets import DatasetManifest
from chiron.wire.enclave_api import Mail, MailReply, Progress, Ready
from chiron.wire.jobs import TERMINAL_STATES, JobState
from chiron.wire.machines import MachineEvidence

routes = Routes()
of_no_job = Routes()
"""For enclaves that tell their machine's key."""
ALL = frozenset(Role) - {Role.MACHINE}
TRAINING = frozenset({Role.PARAMETER_SERVER, Role.SHARD, Role.TRAINER})
TRAINERS = frozenset({Role.TRAINER})
MAIL = frozenset({Role.PARAMETER_SERVER, Role.PREDICTOR})
"""Roles that owners have messages for."""


def _evidence_limit(limits: Limits) -> int:
    return limits.evidence_bytes


def _reply_limit(limits: Limits) -> int:
    return limits.message_bytes * 4 // 3 + limits.evidence_bytes


@routes.add("POST", paths.ENCLAVE_READY, roles=ALL, body=Ready, limit=_evidence_limit)
async def ready(call: Call[LaunchedEnclave, Ready]) -> None:
    """Say that this enclave is up, and where it listens."""
    call.caller.announce(call.body)
    if call.caller.role is Role.PARAMETER_SERVER:
        # It listens once it has its grant.
        await call.gateway.records.await_owner(call.caller.spec.job, waits=False)


@routes.add("GET", paths.ENCLAVE_PARAMETER_SERVER, roles=TRAINING, answer=Ready)
async def parameter_server(call: Call[LaunchedEnclave, None]) -> Ready | None:
    """Wait for the job's parameter server; no content if it is not up in `wait` seconds."""
    return await _peer(call, Role.PARAMETER_SERVER, 0)


@routes.add("GET", paths.ENCLAVE_SHARD, roles=TRAINERS, answer=Ready)
async def shard(call: Call[LaunchedEnclave, None]) -> Ready | None:
    """Wait for a shard of it, from 1; no content if it is not up in `wait` seconds."""
    return await _peer(call, Role.SHARD, int(call.path("index")))


async def _peer(call: Call[LaunchedEnclave, None], role: Role, index: int) -> Ready | None:
    peer = call.gateway.fleet.find(call.caller.spec.job, role, index)
    if peer is None:
        raise EnclaveNotRunning(f"the job's {role} is not running")
    return await peer.address(_wait(call))


@routes.add("GET", paths.ENCLAVE_MAILBOX, roles=MAIL, answer=Mail)
async def take_mail(call: Call[LaunchedEnclave, None]) -> web.StreamResponse | None:
    """Wait for the next message; no content if none comes in `wait` seconds."""
    mail = await call.caller.mailbox.take(_wait(call))
    if mail is None:
        return None
    # Images of an earlier version are launched too, and refuse fields that they do not know.
    body = mail.model_dump_json(exclude_none=True).encode()
    response = web.StreamResponse(
        headers={"Content-Type": JSON_CONTENT_TYPE, "Content-Length": str(len(body))}
    )
    call.request[STARTED] = True
    try:
        await response.prepare(call.request)
        await response.write(body)
        await response.write_eof()
    except BaseException:
        # The enclave hung up while it waited: the message is the next one's.
        call.caller.mailbox.put_back(mail)
        raise
    return response


@routes.add("POST", paths.ENCLAVE_MAIL, roles=MAIL, body=MailReply, limit=_reply_limit)
async def reply(call: Call[LaunchedEnclave, MailReply]) -> None:
    """Answer a message."""
    call.caller.mailbox.answer(call.path("id"), call.body)


@of_no_job.add(
    "POST",
    paths.ENCLAVE_MACHINE,
    roles=frozenset({Role.MACHINE}),
    body=MachineEvidence,
    limit=_evidence_limit,
)
async def machine(call: Call[AskedMachine, MachineEvidence]) -> None:
    """Tell this machine's key."""
    call.caller.tell(call.body)


def _wait(call: Call[LaunchedEnclave, None]) -> float:
    """The query's `wait` in seconds, cut to our longest."""
    given = call.request.query.get("wait", "0")
    try:
        seconds = float(given[:20])
    except ValueError:
        seconds = -1
    if not math.isfinite(seconds) or seconds < 0:
        raise RequestInvalid("wait: a number of seconds")
    return min(seconds, call.gateway.settings.timing.long_poll_s)


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
    if body.again:
        if (body.state, enclave.role) != (JobState.AWAITING_GRANT, Role.PARAMETER_SERVER):
            raise RequestInvalid("again: the parameter server reports that it awaits its grant again")
        await call.gateway.records.await_owner(enclave.spec.job, waits=True)
        return
    await call.gateway.supervisor.advance(
        enclave.spec.job, body.state, body.exchanges_done, body.failure, body.slot_s
    )


def _dataset(call: Call[LaunchedEnclave, None]) -> str:
    dataset_id = call.path("id")
    if dataset_id != call.caller.spec.dataset.dataset_id:
        raise DatasetUnknown("this is not the job's dataset")
    return dataset_id
