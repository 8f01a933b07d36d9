"""Being up, finding the parameter server, and the mailbox."""

import math

from aiohttp import web

from chiron.api.bodies import JSON_CONTENT_TYPE
from chiron.api.enclaves.callers import ALL, MAIL, TRAINERS, TRAINING
from chiron.api.errors import EnclaveNotRunning, RequestInvalid
from chiron.api.jobs.enclave import LaunchedEnclave
from chiron.api.operations import Call, Routes
from chiron.api.problems import STARTED
from chiron.api.settings import Limits
from chiron.wire import paths
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Mail, MailReply, Ready

routes = Routes()


def _evidence_limit(limits: Limits) -> int:
    return limits.evidence_bytes


def _reply_limit(limits: Limits) -> int:
    return limits.message_bytes * 4 // 3 + limits.evidence_bytes


@routes.add("POST", paths.ENCLAVE_READY, roles=ALL, body=Ready, limit=_evidence_limit)
async def ready(call: Call[LaunchedEnclave, Ready]) -> None:
    """Say that this enclave is up, and where it listens."""
    call.caller.announce(call.body)


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
