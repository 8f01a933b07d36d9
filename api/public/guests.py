"""/v1/jobs/{id}/guests: API keys for those whom an owner lets ask her predictor, each for one job and a time.

A guest's key only brings queries through the gateway's door. What is answered, the predictor decides by the
owner's pass (`chiron.wire.opening.Pass`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from chiron.api.errors import KeyUnknown, RequestInvalid
from chiron.api.keys import OWNER, Principal
from chiron.api.operations import Call, Routes
from chiron.api.storage.tables import KeyRow
from chiron.wire import paths
from chiron.wire.public_api import GuestInfo, GuestKey, GuestRequest

routes = Routes()


@routes.add("POST", paths.JOB_GUESTS, roles=OWNER, body=GuestRequest, answer=GuestKey, status=201)
async def invite(call: Call[Principal, GuestRequest]) -> GuestKey:
    """Make a key for a guest of your job: its predictor's start, state, evidence and queries, no more."""
    keys, job = call.gateway.keys, await _own_job(call)
    expires_at = datetime.fromtimestamp(call.body.expires_at, UTC)
    if expires_at <= datetime.now(UTC):
        raise RequestInvalid("expires_at: this time has passed")
    at_most = call.gateway.settings.limits.guests
    row, key = await keys.invite(call.caller.tenant, job, expires_at, call.body.label, at_most)
    return GuestKey(guest=_info(row), key=key)


@routes.add("GET", paths.JOB_GUESTS, roles=OWNER, answer=list[GuestInfo])
async def list_guests(call: Call[Principal, None]) -> Sequence[GuestInfo]:
    """List the guests' keys of your job that hold, oldest first."""
    return [_info(row) for row in await call.gateway.keys.guests(await _own_job(call))]


@routes.add("DELETE", paths.JOB_GUEST, roles=OWNER)
async def dismiss(call: Call[Principal, None]) -> None:
    """End the key of a guest of your job."""
    if not await call.gateway.keys.dismiss_guests(await _own_job(call), call.path("key_id")):
        raise KeyUnknown("your job has no guest whose key has this id")


async def _own_job(call: Call[Principal, Any]) -> str:
    return (await call.gateway.records.get(call.path("id"), call.caller.tenant)).spec.job


def _info(row: KeyRow) -> GuestInfo:
    return GuestInfo(
        key_id=row.id,
        label=row.label or "",
        expires_at=int(datetime.fromisoformat(row.expires_at or row.created_at).timestamp()),
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
