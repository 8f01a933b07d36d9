"""API keys: who a caller is, for which tenant and in which role, and how long a key holds.

A key is `chiron_<id>_<secret>`. Only the secret's SHA-256 is kept, so an owner can make her key herself and
have its hash registered.
"""

import hmac
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from chiron.api.errors import KeyExists, KeyUnknown, RequestInvalid, TooManyGuests, Unauthenticated
from chiron.api.problems import log_unexpected
from chiron.api.settings import Settings
from chiron.api.storage.database import Database
from chiron.api.storage.tables import KeyRow, moment
from chiron.wire.apikeys import KEY, MAX_KEY_CHARACTERS, TENANT, new_key
from chiron.wire.encoding import sha256_hex
from chiron.wire.private import private_directory, refuse_planted
from chiron.wire.public_api import MAX_LABEL_CHARACTERS

KEY_ID = re.compile(r"[0-9a-f]{16}")
HASH = re.compile(r"[0-9a-f]{64}")
_NO_SECRET = sha256_hex(b"")
_USE_NOTED = timedelta(minutes=1)
"""How exactly a key's last use is known."""
_KNOWN = 10_000
"""Keys that a flood from their address does not keep out."""
Clock = Callable[[], datetime]


class TenantRole(StrEnum):
    """What a key is for."""

    OPERATOR = "operator"
    OWNER = "owner"
    AUDITOR = "auditor"
    """Reads the evidence and the public facts of its tenant's jobs."""
    GUEST = "guest"
    """Asks the predictor of one job, which its owner lets it; starts nothing."""


OPERATOR = frozenset({TenantRole.OPERATOR})
OWNER = frozenset({TenantRole.OWNER})
BOTH = OPERATOR | OWNER
READERS = BOTH | {TenantRole.AUDITOR}
"""Who reads what is public."""
GUESTS = frozenset({TenantRole.GUEST})
VISITORS = GUESTS | {TenantRole.AUDITOR}


@dataclass(frozen=True)
class Principal:
    """Who makes a request."""

    tenant: str
    role: TenantRole
    key_id: str
    job: str | None = None
    """The one job that a guest's key is good for."""

    @property
    def visits(self) -> bool:
        """Whether its owner lets the caller in, who has a part of what is the tenant's and never all."""
        return self.role in VISITORS


@dataclass(frozen=True)
class KeyTerms:
    """What a key is good for."""

    tenant: str
    role: TenantRole
    expires_at: datetime | None = None
    label: str | None = None
    job: str | None = None

    def row(self, key_id: str, secret_sha256: str, *, by_hash: bool = False) -> KeyRow:
        """The key as it is stored.

        Raises:
            RequestInvalid: the tenant's name is not lower-case letters, digits and hyphens; a long label.
        """
        if not re.fullmatch(TENANT, self.tenant):
            raise RequestInvalid("tenant: 1 to 63 lower-case letters, digits and hyphens")
        if len(self.label or "") > MAX_LABEL_CHARACTERS:
            raise RequestInvalid(f"label: at most {MAX_LABEL_CHARACTERS} characters")
        return KeyRow(
            id=key_id,
            tenant=self.tenant,
            role=self.role,
            secret_sha256=secret_sha256,
            expires_at=moment(self.expires_at) if self.expires_at else None,
            label=self.label,
            job=self.job,
            by_hash=by_hash,
        )


@dataclass(frozen=True)
class FirstKeys:
    """The keys of a gateway's first start: shown once, stored nowhere in the clear."""

    operator: str
    owner: str


class KeyRing:
    """The keys in the database."""

    def __init__(self, database: Database, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, None] = {}
        """Ids of keys that were good, the one first seen being the first."""

    async def create(
        self,
        tenant: str,
        role: TenantRole,
        *,
        expires_at: datetime | None = None,
        label: str | None = None,
        job: str | None = None,
    ) -> str:
        """Make a key; the returned text is shown once and cannot be recovered.

        Raises:
            RequestInvalid: the tenant's name is not lower-case letters, digits and hyphens.
        """
        made = new_key()
        await self._add(KeyTerms(tenant, role, expires_at, label, job).row(made.id, made.secret_sha256))
        return made.text

    async def register(self, key_id: str, secret_sha256: str, terms: KeyTerms) -> None:
        """Let in a key that its holder made, and whose hash is all that we are told.

        Raises:
            KeyExists: there is a key of this id.
            RequestInvalid: as `create`; or it is no id and no hash.
        """
        if not (KEY_ID.fullmatch(key_id) and HASH.fullmatch(secret_sha256)):
            raise RequestInvalid("id: 16 hexadecimal digits; hash: 64, both in lower case")
        await self._add(terms.row(key_id, secret_sha256, by_hash=True))

    async def rotate(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None = None
    ) -> tuple[str, KeyRow]:
        """Make a key like this one, which holds for `overlap` longer at most; the new text, and the old row.

        Without `expires_at`, the new key ends when the old one would have.

        Raises:
            KeyUnknown: there is no such key, or it does not hold any more.
            RequestInvalid: its holder made it; a new one is theirs to make, too.
        """
        made, now = new_key(), self._clock()
        async with self._database.writing() as session:
            old = await session.get(KeyRow, key_id)
            if old is None or not _holds(old, moment(now)):
                raise KeyUnknown("there is no key of this id that holds")
            if old.by_hash:
                raise RequestInvalid("its holder made this key: register the hash of another, then revoke it")
            new = KeyTerms(old.tenant, TenantRole(old.role), expires_at, old.label, old.job)
            row = new.row(made.id, made.secret_sha256)
            row.expires_at = row.expires_at or old.expires_at
            old.expires_at = min(old.expires_at or "9", moment(now + overlap))
            session.add(row)
        return made.text, old

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is.

        Raises:
            Unauthenticated: nobody's, or it was revoked or has expired. Which of them is not told.
        """
        match = KEY.fullmatch(key[: MAX_KEY_CHARACTERS + 1])
        if match is None:
            raise Unauthenticated("the key is not valid")
        async with self._database.reading() as session:
            row = await session.get(KeyRow, match[1])
        expected = row.secret_sha256 if row else _NO_SECRET
        # SHA-256 is enough for 256 random bits; the comparison tells nothing by its time.
        equal = hmac.compare_digest(expected, sha256_hex(match[2].encode()))
        now = self._clock()
        if row is None or not equal or not _holds(row, moment(now)):
            raise Unauthenticated("the key is not valid")
        self._known[row.id] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]
        await self._note_use(row, now)
        return Principal(row.tenant, TenantRole(row.role), row.id, row.job)

    async def holds(self, caller: Principal) -> bool:
        """Whether the caller's key is still good: asked again where an answer goes on for long."""
        async with self._database.reading() as session:
            row = await session.get(KeyRow, caller.key_id)
        return row is not None and _holds(row, moment(self._clock()))

    async def holding(self, key_ids: Collection[str]) -> frozenset[str]:
        """Those of these keys that are still good."""
        now = moment(self._clock())
        async with self._database.reading() as session:
            rows = await session.scalars(select(KeyRow).where(KeyRow.id.in_(key_ids)))
        return frozenset(row.id for row in rows if _holds(row, now))

    def is_known(self, key: str) -> bool:
        """Whether this looks like a key that was good not long ago; asks nobody."""
        match = KEY.fullmatch(key[: MAX_KEY_CHARACTERS + 1])
        return match is not None and match[1] in self._known

    async def revoke(self, key_id: str) -> bool:
        """End a key by its id (the part between the underscores); False if there is none."""
        async with self._database.writing() as session:
            row = await session.get(KeyRow, key_id)
            if row is None:
                return False
            row.revoked_at = row.revoked_at or moment(self._clock())
        return True

    async def listed(self) -> Sequence[KeyRow]:
        """Every key, oldest first."""
        async with self._database.reading() as session:
            return (await session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))).all()

    async def invite(
        self, tenant: str, job: str, expires_at: datetime, label: str, at_most: int
    ) -> tuple[KeyRow, str]:
        """Make a key for a guest of this job; what is stored of it, and its text.

        Raises:
            TooManyGuests: as many as `at_most` hold.
        """
        made, now = new_key(), moment(self._clock())
        row = KeyTerms(tenant, TenantRole.GUEST, expires_at, label, job).row(made.id, made.secret_sha256)
        theirs = KeyRow.job == job
        async with self._database.writing() as session:
            await session.execute(delete(KeyRow).where(theirs, KeyRow.expires_at <= now))
            held = await session.scalar(select(func.count()).select_from(KeyRow).where(theirs)) or 0
            if held >= at_most:
                raise TooManyGuests("as many guests' keys of this job hold as may: revoke some")
            session.add(row)
        return row, made.text

    async def guests(self, job: str) -> Sequence[KeyRow]:
        """The keys of the job's guests that hold, oldest first."""
        query = select(KeyRow).where(KeyRow.job == job).order_by(KeyRow.created_at, KeyRow.id)
        async with self._database.reading() as session:
            rows = (await session.scalars(query)).all()
        now = moment(self._clock())
        return [row for row in rows if _holds(row, now)]

    async def dismiss_guests(self, job: str, key_id: str | None = None) -> bool:
        """Delete the key of one of the job's guests, or of all; False if there was none."""
        query = delete(KeyRow).where(KeyRow.job == job)
        if key_id is not None:
            query = query.where(KeyRow.id == key_id)
        async with self._database.writing() as session:
            return bool((await session.execute(query.returning(KeyRow.id))).all())

    async def bootstrap(self) -> FirstKeys | None:
        """One operator's and one owner's key if there is no key at all."""
        async with self._database.reading() as session:
            count = await session.scalar(select(func.count()).select_from(KeyRow))
        if count:
            return None
        operator = await self.create("operator", TenantRole.OPERATOR)
        return FirstKeys(operator, await self.create("owner", TenantRole.OWNER))

    async def _add(self, row: KeyRow) -> None:
        async with self._database.writing() as session:
            if await session.get(KeyRow, row.id) is not None:
                raise KeyExists("there is a key of this id already: have another one made")
            session.add(row)

    async def _note_use(self, row: KeyRow, now: datetime) -> None:
        if row.last_used_at is not None and row.last_used_at > moment(now - _USE_NOTED):
            return
        used = update(KeyRow).where(KeyRow.id == row.id).values(last_used_at=moment(now))
        try:
            async with self._database.writing() as session:
                await session.execute(used)
        except SQLAlchemyError as error:
            # A full disk must not keep those out who only look.
            log_unexpected(error)


@asynccontextmanager
async def opened_keys(settings: Settings) -> AsyncIterator[KeyRing]:
    """The keys of a gateway on this machine, whether or not it runs.

    Raises:
        StorageError: the database cannot be opened.
    """
    refuse_planted(private_directory(settings.state_dir))
    database = await Database.open(settings.sqlalchemy_url)
    try:
        yield KeyRing(database)
    finally:
        await database.close()


def _holds(row: KeyRow, now: str) -> bool:
    return row.revoked_at is None and (row.expires_at is None or now < row.expires_at)


def sees_jobs_of(caller: Principal) -> str | None:
    """The tenant whose jobs `caller` sees: operators see the public state of everybody's, which is None."""
    return None if caller.role is TenantRole.OPERATOR else caller.tenant
