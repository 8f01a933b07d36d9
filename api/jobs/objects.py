"""What the operator's side holds of jobs: sealed objects, and the journal of all that went by.

Both are ciphertext to us. The journal tells kind, name and size of each: promise 2 can be checked there.
"""

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence

from sqlalchemy import select

from chiron.api.errors import BodyTooLarge, ObjectRefused, ObjectUnknown, StorageDamaged
from chiron.api.settings import Limits
from chiron.api.storage.blobs import BlobStore
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow, ChunkRow, JobRow, ObjectRow, ObservationRow
from chiron.wire.enclave_api import ObjectInfo, Observation
from chiron.wire.jobs import JobSpec


class Observations:
    """The journal of stored objects and relayed messages."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def note(self, job: str, kind: str, name: str, size: int) -> None:
        """Write down that `size` bytes of ciphertext went by."""
        async with self._database.writing() as session:
            session.add(ObservationRow(job=job, kind=kind, name=name, size=size))

    async def of(self, job: str) -> Sequence[Observation]:
        """Builder and dataset as stored, then everything in the order it happened; cut at the limit."""
        async with self._database.reading() as session:
            row = await session.get_one(JobRow, job)
            spec = JobSpec.model_validate_json(row.spec)
            builder = await session.get_one(BuilderRow, spec.builder_sha256)
            dataset = spec.dataset.dataset_id
            chunks = await session.scalars(
                select(ChunkRow)
                .where(ChunkRow.tenant == row.tenant, ChunkRow.dataset == dataset)
                .order_by(ChunkRow.number)
                .limit(self._limits.observations)
            )
            noted = await session.scalars(
                select(ObservationRow)
                .where(ObservationRow.job == job)
                .order_by(ObservationRow.id)
                .limit(self._limits.observations)
            )
            found = [
                Observation(kind="builder", name=spec.builder_sha256, size=builder.size),
                Observation(kind="dataset-manifest", name=dataset, size=len(spec.dataset.model_dump_json())),
                *(
                    Observation(kind="dataset-chunk", name=str(chunk.number), size=chunk.size)
                    for chunk in chunks
                ),
                *(Observation(kind=note.kind, name=note.name, size=note.size) for note in noted),
            ]
        return found[: self._limits.observations]


class JobObjects:
    """Objects by job and name; a name can be written again, as a checkpoint is."""

    def __init__(self, database: Database, blobs: BlobStore, observations: Observations) -> None:
        self._database = database
        self._blobs = blobs
        self._observations = observations

    async def put(self, job: str, name: str, limit: int, content: AsyncIterable[bytes]) -> int:
        """Store an object of at most `limit` bytes whole, or keep what was there. Returns its bytes.

        Raises:
            ObjectRefused: it is larger.
        """
        # A fresh blob each time: readers of the old one finish, and no crash pairs an old row with new bytes.
        blob = f"{object_blobs(job)}/{name}/{secrets.token_hex(8)}"
        try:
            stored = await self._blobs.write(blob, content, limit=limit)
        except BodyTooLarge as error:
            raise ObjectRefused(f"a job of this spec stores at most {limit} bytes here") from error
        async with self._database.writing() as session:
            old = await session.get(ObjectRow, (job, name))
            replaced = old.blob if old else None
            await session.merge(
                ObjectRow(job=job, name=name, size=stored.size, sha256=stored.sha256, blob=blob)
            )
        if replaced is not None:
            await self._blobs.delete(replaced)
        await self._observations.note(job, "object", name, stored.size)
        return stored.size

    async def listed(self, job: str) -> Sequence[ObjectInfo]:
        """Names and sizes, by name."""
        query = select(ObjectRow).where(ObjectRow.job == job).order_by(ObjectRow.name)
        async with self._database.reading() as session:
            return [ObjectInfo(name=row.name, size=row.size) for row in await session.scalars(query)]

    async def get(self, job: str, name: str) -> tuple[int, AsyncIterator[bytes]]:
        """An object's length and bytes; raises `ObjectUnknown`, `StorageDamaged`.

        One that is replaced before its blob is open is looked up again: an enclave that comes in a killed
        one's place reads while that one's last words are still being written.
        """
        tried = None
        while True:
            async with self._database.reading() as session:
                row = await session.get(ObjectRow, (job, name))
            if row is None:
                raise ObjectUnknown("the job has no object of this name")
            content = self._blobs.read(row.blob, row.size)
            try:
                return row.size, _from(await anext(content, b""), content)
            except StorageDamaged:
                if row.blob == tried:
                    raise
                tried = row.blob


def object_blobs(job: str) -> str:
    """What the keys of a job's blobs begin with."""
    return f"jobs/{job}"


async def _from(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
