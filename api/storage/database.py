"""The database: SQLite by default, another by URL. One gateway process writes to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from sqlalchemy import event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from chiron.api.errors import StorageError, StorageVersion
from chiron.api.storage.tables import SCHEMA_VERSION, SchemaRow, Table


class Database:
    """Sessions over one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite has one writer: waiting here is fair and cannot fail half-way as its busy timeout can.
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect, and make the tables of a new database.

        Raises:
            StorageVersion: another version of the gateway made the tables.
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
            await connection.run_sync(Table.metadata.create_all)
        async with self.writing() as session:
            version = await session.scalar(select(SchemaRow.version))
            if version is None:
                session.add(SchemaRow(version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                raise StorageVersion(f"the database has schema {version}, this gateway {SCHEMA_VERSION}")


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
