"""The owner's dealings with enclaves: evidence, grant, opening, queries and upgrade of a job; and the images.

The gateway carries what they say to each other, and can read none of it.
"""

from collections.abc import Sequence

from chiron.api.errors import Forbidden, Unauthenticated
from chiron.api.jobs.specification import answer_limit
from chiron.api.keys import GUESTS, OWNER, READERS, Principal, TenantRole, sees_jobs_of
from chiron.api.operations import Call, Routes
from chiron.api.rates import MESSAGE_UNIT
from chiron.api.settings import Limits
from chiron.wire import paths
from chiron.wire.attestation import Evidence, Role
from chiron.wire.enclave_api import EvidenceRequest, SealedMessage
from chiron.wire.machines import MachineDemand, MachineEvidence
from chiron.wire.public_api import EvidenceDemand, ImageInfo, PredictorStatus, UpgradeDemand, UpgradeStart

routes = Routes()


def _in_base64(size: int) -> int:
    """JSON bytes of a sealed message of `size` bytes."""
    return size * 4 // 3 + 1024


def _grant_limit(limits: Limits) -> int:
    return _in_base64(limits.grant_bytes)


def _query_limit(limits: Limits) -> int:
    return _in_base64(limits.message_bytes)


@routes.add("POST", paths.JOB_EVIDENCE, roles=READERS | GUESTS, body=EvidenceDemand, answer=Evidence)
async def evidence(call: Call[Principal, EvidenceDemand]) -> Evidence:
    """Have an enclave of the job quote fresh evidence over your nonce; verify it before you trust it."""
    if call.caller.role is TenantRole.GUEST and call.body.role is not Role.PREDICTOR:
        raise Forbidden("a guest's key is for the predictor only")
    job = await call.gateway.records.get(call.path("id"), sees_jobs_of(call.caller))
    asked = EvidenceRequest(nonce=call.body.nonce)
    return await call.gateway.relay.evidence(
        job, call.body.role, asked, giver=call.body.giver, owners=_is_owner(call.caller)
    )


def _is_owner(caller: Principal) -> bool:
    return caller.role is TenantRole.OWNER


@routes.add("POST", paths.JOB_GRANT, roles=OWNER, body=SealedMessage, limit=_grant_limit)
async def grant(call: Call[Principal, SealedMessage]) -> None:
    """Hand the parameter server a grant, sealed to the key in its evidence."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    await call.gateway.relay.grant(job, call.body)


@routes.add(
    "POST", paths.JOB_OPENING, roles=OWNER, body=SealedMessage, answer=SealedMessage, limit=_grant_limit
)
async def opening(call: Call[Principal, SealedMessage]) -> SealedMessage:
    """Hand the predictor what opens its model, sealed to the key in its evidence."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    return await call.gateway.relay.opening(job, call.body)


@routes.add(
    "POST",
    paths.JOB_QUERIES,
    roles=OWNER | GUESTS,
    body=SealedMessage,
    answer=SealedMessage,
    limit=_query_limit,
)
async def query(call: Call[Principal, SealedMessage]) -> SealedMessage:
    """Ask the predictor; query and answer are sealed between you and it."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    # Before anything is spent of a budget for an answer that there is no room for.
    call.held.add(answer_limit(job.spec))
    call.gateway.rates.charge(call.caller, len(call.body.sealed), MESSAGE_UNIT)
    answer = await call.gateway.relay.query(job, call.body, owners=_is_owner(call.caller))
    if not await call.gateway.keys.holds(call.caller):
        # It was revoked while the enclave worked.
        raise Unauthenticated("the key is not valid any more")
    return answer


def _order_limit(limits: Limits) -> int:
    return limits.evidence_bytes + limits.grant_bytes


@routes.add("GET", paths.IMAGES, roles=READERS, answer=list[ImageInfo])
async def list_images(call: Call[Principal, None]) -> Sequence[ImageInfo]:
    """List the enclave images that can be launched, the current one first, with their proofs of inclusion."""
    return call.gateway.launcher.images


@routes.add("POST", paths.MACHINE, roles=OWNER, body=MachineDemand, answer=MachineEvidence)
async def tell_machine(call: Call[Principal, MachineDemand]) -> MachineEvidence:
    """Have an enclave of the current image tell this machine's key, in evidence over your nonce."""
    return await call.gateway.machines.key(call.caller.tenant, call.body.nonce)


@routes.add("POST", paths.JOB_UPGRADE, roles=OWNER, body=UpgradeStart, answer=PredictorStatus, status=202)
async def begin_upgrade(call: Call[Principal, UpgradeStart]) -> PredictorStatus:
    """Start the enclave that gives the job's model and the one that waits for it: verify both next."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    await call.gateway.upgrades.begin(call.caller.tenant, job, call.body.giver)
    return call.gateway.predictors.status(job.spec.job)


@routes.add(
    "POST",
    paths.JOB_UPGRADE_OPENING,
    roles=OWNER,
    body=SealedMessage,
    answer=SealedMessage,
    limit=_grant_limit,
)
async def open_giver(call: Call[Principal, SealedMessage]) -> SealedMessage:
    """Hand the enclave that gives the model what opens it, sealed to the key in its evidence."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    return await call.gateway.relay.opening(job, call.body, giver=True)


@routes.add("POST", paths.JOB_UPGRADE_ORDER, roles=OWNER, body=UpgradeDemand, limit=_order_limit)
async def order_upgrade(call: Call[Principal, UpgradeDemand]) -> None:
    """Carry the job's model to the enclave that waits for it, as the owner's signed order says."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    await call.gateway.upgrades.carry(job, call.body)
