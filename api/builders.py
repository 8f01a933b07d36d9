"""Builders: checked by the sandbox's inspection, kept by their SHA-256."""

import asyncio
import json
from collections.abc import AsyncIterator

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from chiron.api.errors import BuilderExists, BuilderRefused, BuilderUnknown, Forbidden
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
            BuilderExists: it is known with another manifest or from another operator; or this operator has
                published another component under the same name and version.
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
            known = await session.get(BuilderRow, row.sha256)
            if known is None:
                await _refuse_second(session, row)
                return _info(row), False
            return _same(known, row.tenant, manifest), known.withdrawn_at is None

    async def _publish(self, row: BuilderRow, component: bytes) -> None:
        await self._blobs.write(
            builder_blob(row.sha256), _once(component), limit=len(component), sha256=row.sha256
        )
        async with self._database.writing() as session:
            known = await session.get(BuilderRow, row.sha256)
            if known is None:
                session.add(row)
            else:
                # Published anew after it was withdrawn.
                known.withdrawn_at = None

    async def info(self, sha256: str) -> BuilderInfo:
        """What is public of a builder.

        Raises:
            BuilderUnknown: there is none.
        """
        row = await self._find(sha256)
        if row is None or row.withdrawn_at is not None:
            raise BuilderUnknown("there is no builder of this digest")
        return _info(row)

    async def require_publisher(self, tenant: str, sha256: str) -> None:
        """
        Raises:
            BuilderUnknown: there is no builder of this digest.
            Forbidden: another operator published it.
        """
        if (await self.info(sha256)).publisher != tenant:
            raise Forbidden("another operator published this builder")

    async def withdraw(self, sha256: str) -> None:
        """Offer a builder no longer."""
        async with self._database.writing() as session:
            (await session.get_one(BuilderRow, sha256)).withdrawn_at = now()

    async def listed(self, wanted: PageRequest) -> Page[BuilderInfo]:
        """All builders, newest first."""
        offered = select(BuilderRow).where(BuilderRow.withdrawn_at.is_(None))
        query = newest_first(offered, wanted, BuilderRow.created_at, BuilderRow.sha256)
        async with self._database.reading() as session:
            rows = (await session.scalars(query)).all()
        return wanted.page(Page[BuilderInfo], rows, lambda row: (row.created_at, row.sha256), _info)

    def component(self, info: BuilderInfo) -> AsyncIterator[bytes]:
        """The component's bytes; raises `StorageDamaged`."""
        return self._blobs.read(builder_blob(info.sha256), info.size)

    async def _find(self, sha256: str) -> BuilderRow | None:
        async with self._database.reading() as session:
            return await session.get(BuilderRow, sha256)

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


def _same(row: BuilderRow, tenant: str, manifest: BuilderManifest) -> BuilderInfo:
    if row.tenant != tenant or row.manifest != canonical_json(manifest).decode():
        raise BuilderExists("this component is known with another manifest or from another operator")
    return _info(row)


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
