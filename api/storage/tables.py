"""The database's tables. Times are RFC 3339 in UTC; wire models are kept as their JSON."""

from datetime import UTC, datetime

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, Integer, String, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 4
"""Goes up with every change of these tables. A column that is added can be null, or has a server's default:
then a database of an earlier version gets it when it is opened (`Database.open`)."""

Counter = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts only INTEGER primary keys up by itself."""


class Table(DeclarativeBase):
    """Base of all tables."""


def now() -> str:
    """This moment as it is stored and shown."""
    return moment(datetime.now(UTC))


def moment(at: datetime) -> str:
    """A time as it is stored and shown; later times are greater as text, too."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SchemaRow(Table):
    """One row: which version of these tables the database has."""

    __tablename__ = "schema"
    version: Mapped[int] = mapped_column(primary_key=True)


class KeyRow(Table):
    """An API key. Only its secret's SHA-256 is kept; the secret has 256 random bits."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63))
    role: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(String(32), default=now)
    revoked_at: Mapped[str | None] = mapped_column(String(32))
    expires_at: Mapped[str | None] = mapped_column(String(32))
    last_used_at: Mapped[str | None] = mapped_column(String(32))
    """To the minute, or every request would be a write."""
    label: Mapped[str | None] = mapped_column(String(100))
    """Whose it is, in words of whoever had it made."""
    job: Mapped[str | None] = mapped_column(String(32), index=True)
    """A guest's key is good for this job only."""
    by_hash: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Its holder made it, and told us the hash only."""


class BuilderRow(Table):
    """A component that an operator publishes, under a name of its own; the blob store has it once for all."""

    __tablename__ = "publications"
    tenant: Mapped[str] = mapped_column(String(63), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[str] = mapped_column(Text)
    capabilities: Mapped[str] = mapped_column(Text)
    """JSON array."""
    created_at: Mapped[str] = mapped_column(String(32), default=now)
    withdrawn_at: Mapped[str | None] = mapped_column(String(32))
    """When its operator withdrew it. The row stays: its name stands for no other component."""


class DatasetRow(Table):
    """An encrypted dataset. The id is its owner's choice, so it counts within the tenant only."""

    __tablename__ = "datasets"
    tenant: Mapped[str] = mapped_column(String(63), primary_key=True)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    manifest: Mapped[str] = mapped_column(Text)
    chunks: Mapped[int | None]
    """The manifest's, so that lists need not parse it; None in rows of an earlier version."""
    complete: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[str] = mapped_column(String(32), default=now)


class ChunkRow(Table):
    """A chunk that was received whole and is the one in the manifest."""

    __tablename__ = "chunks"
    tenant: Mapped[str] = mapped_column(String(63), primary_key=True)
    dataset: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (ForeignKeyConstraint(["tenant", "dataset"], ["datasets.tenant", "datasets.id"]),)


class JobRow(Table):
    """A job's public state."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63), index=True)
    spec: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), index=True)
    exchanges: Mapped[int]
    """The spec's, so that progress is checked without parsing the spec."""
    exchanges_done: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(String(32))
    awaiting_owner: Mapped[bool] = mapped_column(default=False, server_default=false())
    slot_s: Mapped[float | None]
    created_at: Mapped[str] = mapped_column(String(32), default=now, index=True)
    spec_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """None in rows of an earlier version, until the gateway has counted them."""
    object_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """All that its enclaves can ever store, by the spec."""
    __table_args__ = (Index("storage_of_jobs", "tenant", "state", "spec_bytes", "object_bytes"),)


class EventRow(Table):
    """Each change of a job, numbered from 1: what the event stream replays."""

    __tablename__ = "events"
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(20))
    exchanges_done: Mapped[int]
    failure: Mapped[str | None] = mapped_column(String(32))
    awaiting_owner: Mapped[bool] = mapped_column(default=False, server_default=false())
    at: Mapped[str] = mapped_column(String(32), default=now)


class LaunchRow(Table):
    """An enclave that was launched; its token counts until `exited_at` is set."""

    __tablename__ = "launches"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    role: Mapped[str] = mapped_column(String(20))
    number: Mapped[int]
    name: Mapped[str | None] = mapped_column(String(200))
    """What the launcher calls it."""
    token_sha256: Mapped[str] = mapped_column(String(64))
    launched_at: Mapped[str] = mapped_column(String(32), default=now)
    exited_at: Mapped[str | None] = mapped_column(String(32))
    exit_code: Mapped[int | None]


class ObjectRow(Table):
    """A sealed object of a job, in the blob store."""

    __tablename__ = "objects"
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    blob: Mapped[str] = mapped_column(String(200))


class ObservationRow(Table):
    """Something that was relayed for a job or stored under it."""

    __tablename__ = "observations"
    id: Mapped[int] = mapped_column(Counter, primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    kind: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(128))
    size: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (Index("observations_of_job", "job", "id"),)
