"""Encrypted datasets: announced by a manifest, filled chunk by chunk, complete when every chunk is here."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from functools import lru_cache

from sqlalchemy import func, select
from sqlalchemy.orm import defer

from chiron.api.errors import (
    ChunkUnknown,
    DatasetExists,
    DatasetIncomplete,
    DatasetUnknown,
)
from chiron.api.paging import PageRequest, newest_first
from chiron.api.quotas import Storage
from chiron.api.settings import Limits
from chiron.api.storage.blobs import BlobStore
from chiron.api.storage.database import Database
from chiron.api.storage.tables import ChunkRow, DatasetRow
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import canonical_json
from chiron.wire.public_api import DatasetStatus, DatasetSummary, Page


class Datasets:
    """Every tenant's datasets; each is seen by its tenant only."""

    def __init__(self, database: Database, blobs: BlobStore, limits: Limits, storage: Storage) -> None:
        self._storage = storage
        self._database = database
        self._blobs = blobs
        self._limits = limits

    async def announce(self, tenant: str, manifest: DatasetManifest) -> DatasetStatus:
        """Begin an upload, or go on with one; the same manifest again changes nothing.

        Raises:
            DatasetExists: the id is taken by another manifest.
            StorageFull: the tenant has no room for it.
        """
        text = canonical_json(manifest).decode()
        digest = manifest.digest()
        async with self._storage.room_for(tenant, len(text)) as room, self._database.writing() as session:
            row = await session.get(DatasetRow, (tenant, manifest.dataset_id))
            if row is None:
                row = DatasetRow(
                    tenant=tenant,
                    id=manifest.dataset_id,
                    digest=digest,
                    manifest=text,
                    chunks=manifest.chunks,
                )
                session.add(row)
                room.used = len(text)
        if row.digest != digest:
            raise DatasetExists("this dataset id was announced with another manifest")
        return await self.status(tenant, manifest.dataset_id)

    async def status(self, tenant: str, dataset_id: str) -> DatasetStatus:
        """How far the upload is.

        Raises:
            DatasetUnknown: the tenant has none of this id.
        """
        row = await self._row(tenant, dataset_id)
        return self._status(row, await self._received(tenant, dataset_id))

    async def listed(self, tenant: str, wanted: PageRequest) -> Page[DatasetSummary]:
        """The tenant's datasets, newest first. No manifest is read for it: each may be megabytes."""
        rows = select(DatasetRow).where(DatasetRow.tenant == tenant).options(defer(DatasetRow.manifest))
        query = newest_first(rows, wanted, DatasetRow.created_at, DatasetRow.id)
        async with self._database.reading() as session:
            found = (await session.scalars(query)).all()
        summaries = [await self._summary(row) for row in found]
        return wanted.page(
            Page[DatasetSummary],
            summaries,
            lambda shown: (shown.created_at, shown.dataset_id),
            lambda shown: shown,
        )

    async def _summary(self, row: DatasetRow) -> DatasetSummary:
        chunks = row.chunks or (await self.manifest(row.tenant, row.id)).chunks
        return DatasetSummary(
            dataset_id=row.id,
            digest=row.digest,
            chunks=chunks,
            received=chunks if row.complete else await self._count_received(row.tenant, row.id),
            complete=row.complete,
            created_at=row.created_at,
        )

    async def manifest(self, tenant: str, dataset_id: str) -> DatasetManifest:
        """The manifest; raises `DatasetUnknown`."""
        return _manifest(await self._row(tenant, dataset_id))

    async def is_complete(self, tenant: str, dataset_id: str) -> bool:
        """Whether the upload was completed; raises `DatasetUnknown`."""
        return (await self._row(tenant, dataset_id)).complete

    async def put_chunk(
        self, tenant: str, dataset_id: str, number: int, content: AsyncIterable[bytes]
    ) -> int:
        """Store a chunk if it is the one in the manifest; the same chunk again is fine. Returns its bytes.

        Raises:
            DatasetUnknown, ChunkUnknown: there is no such chunk in the manifest.
            BodyTooLarge: it is longer than the manifest says.
            ChunkDigestMismatch: it is another chunk, or was cut short.
            StorageFull: the tenant has no room for it.
        """
        manifest = await self.manifest(tenant, dataset_id)
        if number >= manifest.chunks:
            raise ChunkUnknown(f"the manifest has {manifest.chunks} chunks")
        async with self._storage.room_for(tenant, manifest.chunk_ciphertext_bytes) as room:
            stored = await self._blobs.write(
                _blob(tenant, dataset_id, number),
                content,
                limit=manifest.chunk_ciphertext_bytes,
                sha256=manifest.chunk_sha256[number],
            )
            async with self._database.writing() as session:
                there = await session.get(DatasetRow, (tenant, dataset_id)) is not None
                if there and await session.get(ChunkRow, (tenant, dataset_id, number)) is None:
                    session.add(ChunkRow(tenant=tenant, dataset=dataset_id, number=number, size=stored.size))
                    room.used = stored.size
        if not there:
            # Its owner had the dataset deleted while this chunk was on its way.
            await self._blobs.delete(_blob(tenant, dataset_id, number))
            raise DatasetUnknown("you have no dataset of this id")
        return stored.size

    async def complete(self, tenant: str, dataset_id: str) -> DatasetStatus:
        """Close the upload.

        Raises:
            DatasetUnknown: the tenant has none of this id.
            DatasetIncomplete: with the numbers of the missing chunks.
        """
        manifest = await self.manifest(tenant, dataset_id)
        missing = sorted(set(range(manifest.chunks)) - set(await self._received(tenant, dataset_id)))
        if missing:
            raise DatasetIncomplete(f"{len(missing)} of {manifest.chunks} chunks are missing", tuple(missing))
        async with self._database.writing() as session:
            row = await session.get_one(DatasetRow, (tenant, dataset_id))
            row.complete = True
        return await self.status(tenant, dataset_id)

    async def chunk(self, tenant: str, dataset_id: str, number: int) -> tuple[int, AsyncIterator[bytes]]:
        """A chunk's length and bytes; raises `ChunkUnknown`, `StorageDamaged`."""
        async with self._database.reading() as session:
            row = await session.get(ChunkRow, (tenant, dataset_id, number))
        if row is None:
            raise ChunkUnknown("this chunk was not received")
        return row.size, self._blobs.read(_blob(tenant, dataset_id, number), row.size)

    async def _row(self, tenant: str, dataset_id: str) -> DatasetRow:
        async with self._database.reading() as session:
            row = await session.get(DatasetRow, (tenant, dataset_id))
        if row is None:
            raise DatasetUnknown("you have no dataset of this id")
        return row

    async def _received(self, tenant: str, dataset_id: str) -> Sequence[int]:
        query = select(ChunkRow.number).where(ChunkRow.tenant == tenant, ChunkRow.dataset == dataset_id)
        async with self._database.reading() as session:
            return (await session.scalars(query.order_by(ChunkRow.number))).all()

    async def _count_received(self, tenant: str, dataset_id: str) -> int:
        query = select(func.count()).where(ChunkRow.tenant == tenant, ChunkRow.dataset == dataset_id)
        async with self._database.reading() as session:
            return await session.scalar(query) or 0

    def _status(self, row: DatasetRow, received: Sequence[int]) -> DatasetStatus:
        return DatasetStatus(
            dataset_id=row.id,
            digest=row.digest,
            chunks=row.chunks or _manifest(row).chunks,
            received=tuple(received),
            complete=row.complete,
            created_at=row.created_at,
        )


def _manifest(row: DatasetRow) -> DatasetManifest:
    return _parsed(row.manifest)


@lru_cache(maxsize=32)
def _parsed(manifest: str) -> DatasetManifest:
    """A manifest never changes, and every chunk of an upload needs it."""
    return DatasetManifest.model_validate_json(manifest)


def _blob(tenant: str, dataset_id: str, number: int) -> str:
    return f"{dataset_blobs(tenant, dataset_id)}/{number}"


def dataset_blobs(tenant: str, dataset_id: str) -> str:
    """What the keys of a dataset's blobs begin with."""
    return f"datasets/{tenant}/{dataset_id}"
