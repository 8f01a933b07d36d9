"""The database, SQLite by default, another by URL; and the lock that keeps it to one gateway process."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, column, event, insert, inspect, select, table, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.schema import CreateColumn

from chiron.api.errors import StorageError, StorageInUse, StorageVersion
from chiron.api.storage.tables import SCHEMA_VERSION, BuilderRow, SchemaRow, Table
from chiron.wire.private import private_directory, refuse_planted

_PUBLICATIONS_SINCE = 4
"""The schema in which several operators may publish one component. Before, it was one's: `builders`."""


class Database:
    """Sessions over one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite has one writer: waiting here is fair and cannot fail half-way as its busy timeout can.
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect, make the tables of a new database, and bring those of an earlier version up to ours.

        Raises:
            StorageVersion: a later version of the gateway made the tables.
            StorageError: it cannot be opened.
        """
        engine = create_async_engine(url, hide_parameters=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _configure_sqlite)
        database = cls(engine)
        try:
            await database._make_tables()
        except SQLAlchemyError as error:
            await engine.dispose()
            raise StorageError("the database cannot be opened") from error
        except StorageError:
            await engine.dispose()
            raise
        return database

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reading; nothing is committed."""
        async with self._sessions() as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A session that is committed at the end of the block, or rolled back if it raises."""
        async with self._writer, self._sessions.begin() as session:
            yield session

    async def _make_tables(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(_bring_up)


def _bring_up(connection: Connection) -> None:
    """Nothing is changed of a later version's database, and nothing is taken away of an earlier one's.

    Whatever interrupts this, it finishes when the database is opened again: the version is written last.
    """
    found = inspect(connection)
    there = set(found.get_table_names())
    known = connection.scalar(select(SchemaRow.version)) if SchemaRow.__tablename__ in there else None
    if known is not None and known > SCHEMA_VERSION:
        raise StorageVersion(
            f"the database has schema {known}, this gateway {SCHEMA_VERSION}: use a newer one"
        )
    missing = [
        ours
        for known_table in Table.metadata.sorted_tables
        if known_table.name in there
        for ours in known_table.columns
        if ours.name not in {present["name"] for present in found.get_columns(known_table.name)}
    ]
    for ours in missing:
        written = CreateColumn(ours).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {ours.table.name} ADD COLUMN {written}"))
    Table.metadata.create_all(connection)
    if "builders" in there and (known is None or known < _PUBLICATIONS_SINCE):
        _publish_builders(connection, {present["name"] for present in found.get_columns("builders")})
    for index in (index for ours in missing for index in ours.table.indexes):
        index.create(connection, checkfirst=True)
    if known is None:
        connection.execute(insert(SchemaRow).values(version=SCHEMA_VERSION))
    else:
        connection.execute(update(SchemaRow).values(version=SCHEMA_VERSION))


def _publish_builders(connection: Connection, columns: set[str]) -> None:
    """Take over what was published while a component could be so once only. The old table stays as it is."""
    names = [ours.name for ours in BuilderRow.__table__.columns if ours.name in columns]
    before = table("builders", *map(column, names))
    taken = select(BuilderRow.sha256)
    rows = select(before).where(before.c.sha256.not_in(taken))
    connection.execute(insert(BuilderRow).from_select(names, rows))


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process. The kernel lets go of it however the process ends.

    Raises:
        StorageInUse: another process holds it.
        DirectoryNotOurs: it, or something in it, is another user's, or is a link.
    """
    refuse_planted(private_directory(directory))
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(directory / "gateway.lock", flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageInUse("another gateway runs in this state directory") from error
        yield
    finally:
        os.close(descriptor)
