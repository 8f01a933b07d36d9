"""Builders: checked by the sandbox's inspection, kept by their SHA-256, each under its publishers' names.

A digest says what a component does, and is nobody's: whoever publishes it first keeps no other from
publishing it, too, with a manifest of its own. A name is its publisher's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from chiron.api.errors import BuilderExists, BuilderInUse, BuilderRefused, BuilderUnknown, Forbidden
from chiron.api.paging import PageRequest, newest_first
from chiron.api.settings import Limits
from chiron.api.storage.blobs import BlobStore
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow, now
from chiron.wasm_sandbox.compilation import ComponentInfo, inspect_component
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wire.contract import BuilderManifest, Capability
from chiron.wire.encoding import canonical_json
from chiron.wire.public_api import BuilderInfo, Page

_INSPECTIONS_AT_ONCE = 2
"""Each holds a component and its compilation in memory."""


class Builders:
    """Every operator's builders; usable by all owners."""

    def __init__(self, database: Database, blobs: BlobStore, limits: Limits) -> None:
        self._database = database
        self._blobs = blobs
        self._limits = limits
        self._inspections = asyncio.Semaphore(_INSPECTIONS_AT_ONCE)
        self._publishing = asyncio.Lock()

    async def add(self, tenant: str, manifest: BuilderManifest, component: bytes) -> BuilderInfo:
        """Inspect and store; the same upload again changes nothing.

        Raises:
            BuilderRefused: the component is no builder of our world.
            BuilderExists: this operator has published it with another manifest, or another component under
                the same name and version.
        """
        info = await self._inspect(component)
        row = BuilderRow(
            sha256=info.sha256,
            tenant=tenant,
            size=len(component),
            manifest=canonical_json(manifest).decode(),
            capabilities=json.dumps(sorted(info.capabilities)),
            created_at=now(),
        )
        # One at a time: nobody else takes the name between check and row, and no refusal leaves bytes.
        async with self._publishing:
            answer, published = await self._checked(row, manifest)
            if not published:
                await self._publish(row, component)
        return answer

    async def _checked(self, row: BuilderRow, manifest: BuilderManifest) -> tuple[BuilderInfo, bool]:
        """What is to be answered, and whether it is published already; raises `BuilderExists`."""
        async with self._database.reading() as session:
            known = await session.get(BuilderRow, (row.tenant, row.sha256))
            if known is None:
                await _refuse_second(session, row)
                return _info(row), False
            return _same(known, manifest), known.withdrawn_at is None

    async def _publish(self, row: BuilderRow, component: bytes) -> None:
        await self._blobs.write(
            builder_blob(row.sha256), _once(component), limit=len(component), sha256=row.sha256
        )
        async with self._database.writing() as session:
            known = await session.get(BuilderRow, (row.tenant, row.sha256))
            if known is None:
                session.add(row)
            else:
                # Published anew after it was withdrawn.
                known.withdrawn_at = None

    async def info(self, sha256: str, publisher: str | None = None) -> BuilderInfo:
        """What is public of a builder: as this publisher says, or the one that was first.

        Raises:
            BuilderUnknown: there is none.
        """
        for info in await self.published(sha256):
            if publisher in (None, info.publisher):
                return info
        raise BuilderUnknown("there is no builder of this digest, or not by this publisher")

    async def published(self, sha256: str) -> list[BuilderInfo]:
        """A component as each publisher offers it, the first one first."""
        query = select(BuilderRow).where(BuilderRow.sha256 == sha256, BuilderRow.withdrawn_at.is_(None))
        async with self._database.reading() as session:
            rows = await session.scalars(query.order_by(BuilderRow.created_at, BuilderRow.tenant))
            return [_info(row) for row in rows]

    async def withdraw(self, tenant: str, sha256: str, in_use: Callable[[], Awaitable[bool]]) -> None:
        """Offer a publisher's builder no longer; the component goes with its last one.

        Raises:
            BuilderUnknown: there is no builder of this digest.
            Forbidden: others published it, and this tenant did not.
            BuilderInUse: nobody else publishes it, and it is `in_use`.
        """
        async with self._publishing:
            publishers = {info.publisher for info in await self.published(sha256)}
            if not publishers:
                raise BuilderUnknown("there is no builder of this digest")
            if tenant not in publishers:
                raise Forbidden("another operator published this builder")
            last = publishers == {tenant}
            if last and await in_use():
                raise BuilderInUse("a job that has not ended runs this builder: wait for its end")
            async with self._database.writing() as session:
                (await session.get_one(BuilderRow, (tenant, sha256))).withdrawn_at = now()
            if last:
                await self._blobs.delete(builder_blob(sha256))

    async def listed(self, wanted: PageRequest) -> Page[BuilderInfo]:
        """All builders, newest first."""
        offered = select(BuilderRow).where(BuilderRow.withdrawn_at.is_(None))
        name = BuilderRow.sha256 + "/" + BuilderRow.tenant
        query = newest_first(offered, wanted, BuilderRow.created_at, name)
        async with self._database.reading() as session:
            rows = (await session.scalars(query)).all()
        return wanted.page(Page[BuilderInfo], rows, lambda row: (row.created_at, _place(row)), _info)

    def component(self, info: BuilderInfo) -> AsyncIterator[bytes]:
        """The component's bytes; raises `StorageDamaged`."""
        return self._blobs.read(builder_blob(info.sha256), info.size)

    async def _inspect(self, component: bytes) -> ComponentInfo:
        async with self._inspections:
            try:
                return await asyncio.to_thread(inspect_component, component)
            except SandboxError as error:
                raise BuilderRefused(error.code, str(error)) from error


async def _refuse_second(session: AsyncSession, row: BuilderRow) -> None:
    """A publisher's name and version stand for one component, for good."""
    new = _info(row)
    for other in await session.scalars(select(BuilderRow).where(BuilderRow.tenant == row.tenant)):
        if _info(other).full_name == new.full_name:
            raise BuilderExists(f"{new.full_name} is another component, {other.sha256}: raise the version")


def _same(row: BuilderRow, manifest: BuilderManifest) -> BuilderInfo:
    if row.manifest != canonical_json(manifest).decode():
        raise BuilderExists("you published this component with another manifest")
    return _info(row)


def _place(row: BuilderRow) -> str:
    """What names it in a list, as `Builders.listed` orders them."""
    return f"{row.sha256}/{row.tenant}"


def _info(row: BuilderRow) -> BuilderInfo:
    return BuilderInfo(
        sha256=row.sha256,
        publisher=row.tenant,
        size=row.size,
        capabilities=tuple(Capability(name) for name in json.loads(row.capabilities)),
        manifest=BuilderManifest.model_validate_json(row.manifest),
        created_at=row.created_at,
    )


def builder_blob(sha256: str) -> str:
    """Key of a builder's blob."""
    return f"builders/{sha256}"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
