"""API keys: who a caller is, for which tenant and in which role."""

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select

from chiron.api.errors import RequestInvalid, Unauthenticated
from chiron.api.settings import Settings
from chiron.api.storage.database import Database
from chiron.api.storage.tables import KeyRow, now
from chiron.wire.encoding import sha256_hex

TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_KEY_CHARACTERS = 100
_KEY = re.compile(r"chiron_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NO_SECRET = sha256_hex(b"")


class TenantRole(StrEnum):
    """What a key is for."""

    OPERATOR = "operator"
    OWNER = "owner"


OPERATOR = frozenset({TenantRole.OPERATOR})
OWNER = frozenset({TenantRole.OWNER})
BOTH = OPERATOR | OWNER


@dataclass(frozen=True)
class Principal:
    """Who makes a request."""

    tenant: str
    role: TenantRole
    key_id: str


@dataclass(frozen=True)
class FirstKeys:
    """The keys of a gateway's first start: shown once, stored nowhere in the clear."""

    operator: str
    owner: str


class KeyRing:
    """The keys in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: str, role: TenantRole) -> str:
        """Make a key; the returned text is shown once and cannot be recovered.

        Raises:
            RequestInvalid: the tenant's name is not lower-case letters, digits and hyphens.
        """
        if not TENANT.fullmatch(tenant):
            raise RequestInvalid("tenant: 1 to 63 lower-case letters, digits and hyphens")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        row = KeyRow(id=key_id, tenant=tenant, role=role, secret_sha256=sha256_hex(secret.encode()))
        async with self._database.writing() as session:
            session.add(row)
        return f"chiron_{key_id}_{secret}"

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            Unauthenticated: nobody's, or it was revoked. Which of them is not told.
        """
        match = _KEY.fullmatch(key[:MAX_KEY_CHARACTERS])
        if match is None:
            raise Unauthenticated("the key is not valid")
        async with self._database.reading() as session:
            row = await session.get(KeyRow, match[1])
        expected = row.secret_sha256 if row else _NO_SECRET
        # SHA-256 is enough for 256 random bits; the comparison tells nothing by its time.
        equal = hmac.compare_digest(expected, sha256_hex(match[2].encode()))
        if row is None or row.revoked_at is not None or not equal:
            raise Unauthenticated("the key is not valid")
        return Principal(row.tenant, TenantRole(row.role), row.id)

    async def revoke(self, key_id: str) -> bool:
        """End a key by its id (the part between the underscores); False if there is none."""
        async with self._database.writing() as session:
            row = await session.get(KeyRow, key_id)
            if row is None:
                return False
            row.revoked_at = row.revoked_at or now()
        return True

    async def listed(self) -> Sequence[KeyRow]:
        """Every key, oldest first."""
        async with self._database.reading() as session:
            return (await session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))).all()

    async def bootstrap(self) -> FirstKeys | None:
        """One operator's and one owner's key if there is no key at all."""
        async with self._database.reading() as session:
            count = await session.scalar(select(func.count()).select_from(KeyRow))
        if count:
            return None
        operator = await self.create("operator", TenantRole.OPERATOR)
        return FirstKeys(operator, await self.create("owner", TenantRole.OWNER))


async def create_key(settings: Settings, tenant: str, role: TenantRole) -> str:
    """Make a key in the gateway's database, whether or not the gateway runs.

    Raises:
        RequestInvalid: as `KeyRing.create`.
        StorageError: the database cannot be opened.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = await Database.open(settings.sqlalchemy_url)
    try:
        return await KeyRing(database).create(tenant, TenantRole(role))
    finally:
        await database.close()


def sees_jobs_of(caller: Principal) -> str | None:
    """The tenant whose jobs `caller` sees: operators see the public state of everybody's, which is None."""
    return None if caller.role is TenantRole.OPERATOR else caller.tenant
