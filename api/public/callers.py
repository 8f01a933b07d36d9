"""Who calls the public API."""

from typing import TYPE_CHECKING

from chiron.api.keys import Principal, TenantRole

if TYPE_CHECKING:
    from chiron.api.gateway import Gateway

OPERATOR = frozenset({TenantRole.OPERATOR})
OWNER = frozenset({TenantRole.OWNER})
BOTH = OPERATOR | OWNER


async def authenticate(gateway: "Gateway", key: str) -> Principal:
    """Whose key it is; raises `Unauthenticated`."""
    return await gateway.keys.authenticate(key)


def sees_jobs_of(caller: Principal) -> str | None:
    """The tenant whose jobs `caller` sees: operators see the public state of everybody's, which is None."""
    return None if caller.role is TenantRole.OPERATOR else caller.tenant
