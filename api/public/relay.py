"""/v1/jobs/{id}/evidence, grant, queries: the owner's words to an enclave, which the gateway cannot read."""

from chiron.api.keys import Principal
from chiron.api.operations import Call, Routes
from chiron.api.public.callers import BOTH, OWNER, sees_jobs_of
from chiron.api.settings import Limits
from chiron.wire import paths
from chiron.wire.attestation import Evidence
from chiron.wire.enclave_api import EvidenceRequest, SealedMessage
from chiron.wire.public_api import EvidenceDemand

routes = Routes()


def _in_base64(size: int) -> int:
    """JSON bytes of a sealed message of `size` bytes."""
    return size * 4 // 3 + 1024


def _grant_limit(limits: Limits) -> int:
    return _in_base64(limits.grant_bytes)


def _query_limit(limits: Limits) -> int:
    return _in_base64(limits.message_bytes)


@routes.add("POST", paths.JOB_EVIDENCE, roles=BOTH, body=EvidenceDemand, answer=Evidence)
async def evidence(call: Call[Principal, EvidenceDemand]) -> Evidence:
    """Have an enclave of the job quote fresh evidence over your nonce; verify it before you trust it."""
    job = await call.gateway.records.get(call.path("id"), sees_jobs_of(call.caller))
    return await call.gateway.relay.evidence(job, call.body.role, EvidenceRequest(nonce=call.body.nonce))


@routes.add("POST", paths.JOB_GRANT, roles=OWNER, body=SealedMessage, limit=_grant_limit)
async def grant(call: Call[Principal, SealedMessage]) -> None:
    """Hand the parameter server a grant, sealed to the key in its evidence."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    await call.gateway.relay.grant(job, call.body)


@routes.add(
    "POST",
    paths.JOB_QUERIES,
    roles=OWNER,
    body=SealedMessage,
    answer=SealedMessage,
    limit=_query_limit,
)
async def query(call: Call[Principal, SealedMessage]) -> SealedMessage:
    """Ask the predictor; query and answer are sealed between you and it."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    return await call.gateway.relay.query(job, call.body)
