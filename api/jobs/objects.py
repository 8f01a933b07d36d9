"""What the operator's side holds of jobs: sealed objects, and the journal of all that went by.

Both are ciphertext to us. The journal tells kind, name and size of each: promise 2 can be checked there.
"""

import re
import secrets
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator

from sqlalchemy import Delete, Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from chiron.api.errors import (
    BodyTooLarge,
    JobUnknown,
    ObjectRefused,
    ObjectUnknown,
    RequestInvalid,
    StorageDamaged,
)
from chiron.api.paging import PageRequest
from chiron.api.settings import Limits
from chiron.api.storage.blobs import BlobStore
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow, ChunkRow, JobRow, ObjectRow, ObservationRow
from chiron.wire.enclave_api import ObjectInfo, Observation
from chiron.wire.jobs import JobSpec
from chiron.wire.public_api import Page

OBJECT = "object"
"""The kind of an observation that is no message."""
_FORGETTING = 16
"""Older messages are forgotten when the journal has grown by this part of what is kept."""


class Observations:
    """The journal of stored objects and relayed messages.

    Of messages, which those who may ask can send for ever, the latest are kept; objects are as many as the
    spec says.
    """

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._kept = limits.observed_messages
        self._noted: Counter[str] = Counter()
        """Of each job, since older ones were forgotten last."""

    async def note(self, job: str, kind: str, name: str, size: int) -> None:
        """Write down that `size` bytes of ciphertext went by."""
        self._noted[job] += 1
        async with self._database.writing() as session:
            session.add(ObservationRow(job=job, kind=kind, name=name, size=size))
            if self._noted[job] > self._kept // _FORGETTING:
                del self._noted[job]
                await session.flush()
                await session.execute(_older_messages(job, self._kept))

    async def of(self, job: str, wanted: PageRequest) -> Page[Observation]:
        """Builder and dataset as stored, then everything in the order it happened."""
        phase, number = _place(wanted)
        async with self._database.reading() as session:
            row = await session.get_one(JobRow, job)
            spec = JobSpec.model_validate_json(row.spec)
            found: list[_Placed] = []
            if phase == _STORED:
                found += [placed for placed in await _stored(session, spec) if placed[0][1] > number]
            if phase != _NOTED:
                after = number if phase == _CHUNK else -1
                chunks = _chunks(row.tenant, spec.dataset.dataset_id, after).limit(wanted.limit + 1)
                found += [_chunk(chunk) for chunk in await session.scalars(chunks)]
            if len(found) <= wanted.limit:
                noted = _notes(job, number if phase == _NOTED else 0).limit(wanted.limit + 1)
                found += [_noted(note) for note in await session.scalars(noted)]
        return wanted.page(Page[Observation], found, lambda placed: placed[0], lambda placed: placed[1])


_Placed = tuple[tuple[str, int], Observation]
"""An observation, and what a cursor names it by."""
_STORED, _CHUNK, _NOTED = "stored", "chunk", "noted"


def _place(wanted: PageRequest) -> tuple[str, int]:
    """The phase that a page begins in, and the last number of it that was shown."""
    phase, number = wanted.key(2) or (_STORED, "-1")
    if phase not in (_STORED, _CHUNK, _NOTED) or not re.fullmatch(r"-1|\d{1,18}", number, re.ASCII):
        raise RequestInvalid("cursor: the `next` of an earlier page of this list")
    return phase, int(number)


async def _stored(session: AsyncSession, spec: JobSpec) -> list[_Placed]:
    size = await session.scalar(
        select(BuilderRow.size).where(BuilderRow.sha256 == spec.builder_sha256).limit(1)
    )
    dataset = spec.dataset
    manifest_bytes = len(dataset.model_dump_json())
    return [
        ((_STORED, 0), Observation(kind="builder", name=spec.builder_sha256, size=size or 0)),
        (
            (_STORED, 1),
            Observation(kind="dataset-manifest", name=dataset.dataset_id, size=manifest_bytes),
        ),
    ]


def _chunks(tenant: str, dataset: str, after: int) -> Select[ChunkRow]:
    query = select(ChunkRow).where(ChunkRow.tenant == tenant, ChunkRow.dataset == dataset)
    return query.where(ChunkRow.number > after).order_by(ChunkRow.number)


def _chunk(row: ChunkRow) -> _Placed:
    return (_CHUNK, row.number), Observation(kind="dataset-chunk", name=str(row.number), size=row.size)


def _notes(job: str, after: int) -> Select[ObservationRow]:
    query = select(ObservationRow).where(ObservationRow.job == job, ObservationRow.id > after)
    return query.order_by(ObservationRow.id)


def _older_messages(job: str, kept: int) -> Delete:
    """All but the latest `kept` that were relayed."""
    messages = ObservationRow.job == job, ObservationRow.kind != OBJECT
    latest = select(ObservationRow.id).where(*messages).order_by(ObservationRow.id.desc())
    return delete(ObservationRow).where(
        *messages, ObservationRow.id <= latest.offset(kept).limit(1).scalar_subquery()
    )


def _noted(row: ObservationRow) -> _Placed:
    return (_NOTED, row.id), Observation(kind=row.kind, name=row.name, size=row.size)


class JobObjects:
    """Objects by job and name; a name can be written again, as a checkpoint is."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def put(self, job: str, name: str, limit: int, content: AsyncIterable[bytes]) -> int:
        """Store an object of at most `limit` bytes whole, or keep what was there. Returns its bytes.

        Raises:
            ObjectRefused: it is larger.
            JobUnknown: the job was deleted meanwhile; nothing is kept.
        """
        # A fresh blob each time: readers of the old one finish, and no crash pairs an old row with new bytes.
        blob = f"{object_blobs(job)}/{name}/{secrets.token_hex(8)}"
        try:
            stored = await self._blobs.write(blob, content, limit=limit)
        except BodyTooLarge as error:
            raise ObjectRefused(f"a job of this spec stores at most {limit} bytes here") from error
        async with self._database.writing() as session:
            there = await session.get(JobRow, job) is not None
            old = await session.get(ObjectRow, (job, name))
            replaced = old.blob if old else None
            if there:
                await session.merge(
                    ObjectRow(job=job, name=name, size=stored.size, sha256=stored.sha256, blob=blob)
                )
                session.add(ObservationRow(job=job, kind=OBJECT, name=name, size=stored.size))
        if not there:
            await self._blobs.delete(blob)
            raise JobUnknown("the job was deleted")
        if replaced is not None:
            await self._blobs.delete(replaced)
        return stored.size

    async def listed(self, job: str, wanted: PageRequest) -> Page[ObjectInfo]:
        """Names and sizes, by name."""
        query = select(ObjectRow).where(ObjectRow.job == job).order_by(ObjectRow.name)
        for name in wanted.key(1):
            query = query.where(ObjectRow.name > name)
        async with self._database.reading() as session:
            rows = (await session.scalars(query.limit(wanted.limit + 1))).all()
        return wanted.page(
            Page[ObjectInfo],
            rows,
            lambda row: (row.name,),
            lambda row: ObjectInfo(name=row.name, size=row.size),
        )

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
