"""/v1/images and /v1/jobs/{id}/upgrade: which enclave code there is, and moving a model to newer."""

from collections.abc import Sequence

from chiron.api.keys import Principal
from chiron.api.operations import Call, Routes
from chiron.api.public.callers import BOTH, OWNER
from chiron.api.settings import Limits
from chiron.wire import paths
from chiron.wire.public_api import ImageInfo, PredictorStatus, UpgradeDemand

routes = Routes()


def _order_limit(limits: Limits) -> int:
    return limits.evidence_bytes + limits.grant_bytes


@routes.add("GET", paths.IMAGES, roles=BOTH, answer=list[ImageInfo])
async def list_images(call: Call[Principal, None]) -> Sequence[ImageInfo]:
    """List the enclave images that can be launched, the current one first, with their proofs of inclusion."""
    return call.gateway.launcher.images


@routes.add("POST", paths.JOB_UPGRADE, roles=OWNER, answer=PredictorStatus, status=202)
async def begin_upgrade(call: Call[Principal, None]) -> PredictorStatus:
    """Replace the job's predictor by one of the current image that waits for the model: verify it next."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    await call.gateway.upgrades.begin(call.caller.tenant, job)
    return call.gateway.predictors.status(job.spec.job)


@routes.add("POST", paths.JOB_UPGRADE_ORDER, roles=OWNER, body=UpgradeDemand, limit=_order_limit)
async def order_upgrade(call: Call[Principal, UpgradeDemand]) -> None:
    """Carry the job's model to the enclave that waits for it, as the owner's signed order says."""
    job = await call.gateway.records.get(call.path("id"), call.caller.tenant)
    await call.gateway.upgrades.carry(call.caller.tenant, job, call.body)
