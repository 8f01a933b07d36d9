"""What one tenant may take of the gateway: event streams, memory, storage. How often it may ask: `rates`.

None may have all that there is, so nobody can keep the others out; nor may a tenant's guests and auditors
have all that is its, so that they cannot keep out its owner.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Select, func, select

from chiron.api.errors import StorageFull, TooManyBytes, TooManyStreams
from chiron.api.keys import Principal
from chiron.api.settings import Limits
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow, ChunkRow, DatasetRow, JobRow, ObjectRow
from chiron.wire.jobs import JobState

UNCOUNTED_BYTES = 2**20
"""Of each request."""


class Streams:
    """Event streams that are open, of each tenant and in all."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._visitors: Counter[str] = Counter()

    @contextmanager
    def one_of(self, caller: Principal) -> Iterator[None]:
        """Count a stream while the block lasts.

        Raises:
            TooManyStreams: the gateway, or this tenant, has as many as it may; or its auditors have half.
        """
        tenant, share = caller.tenant, self._limits.event_streams_per_tenant
        if self._open[tenant] >= share or (caller.visits and self._visitors[tenant] >= share // 2):
            raise TooManyStreams("as many event streams are open as your tenant may have")
        if self._open.total() >= self._limits.event_streams:
            raise TooManyStreams("as many event streams are open as this gateway allows")
        with _counted(self._open, tenant), _counted(self._visitors, tenant if caller.visits else None):
            yield


class Held:
    """Bytes in memory of one request, and of the message that answers it."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self._take = take
        self._size = 0

    def add(self, size: int) -> None:
        """Count more of it.

        Raises:
            TooManyBytes: there is no room for them.
        """
        before = max(0, self._size - UNCOUNTED_BYTES)
        self._size += size
        more = max(0, self._size - UNCOUNTED_BYTES) - before
        if more:
            self._take(more)


class Memory:
    """Bytes of large requests in memory, until they are answered: of each tenant and in all.

    Messages wait in enclaves' mailboxes for as long, so this bounds those, too. What is smaller than
    `UNCOUNTED_BYTES` is not counted: connections and rates bound it, and an owner can always send a grant, an
    opening or a dismissal.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: Counter[str] = Counter()
        self._visitors: Counter[str] = Counter()

    @contextmanager
    def one_of(self, caller: Principal) -> Iterator[Held]:
        """What a request holds while the block lasts."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            self._check(caller, size)
            taken += size
            self._count(caller, size)

        try:
            yield Held(take)
        finally:
            self._count(caller, -taken)

    def _check(self, caller: Principal, size: int) -> None:
        tenant, share = caller.tenant, self._limits.memory_bytes_per_tenant
        visiting = caller.visits and self._visitors[tenant] + size > share // 2
        if visiting or self._held[tenant] + size > share:
            raise TooManyBytes("as many bytes of requests are under way as your tenant may have")
        if self._held.total() + size > self._limits.memory_bytes:
            raise TooManyBytes("as many bytes of requests are under way as this gateway allows")

    def _count(self, caller: Principal, size: int) -> None:
        self._held[caller.tenant] += size
        if caller.visits:
            self._visitors[caller.tenant] += size
        # Forgets tenants that have none.
        self._held += Counter()
        self._visitors += Counter()


@dataclass
class Room:
    """Storage that is set aside for something that arrives."""

    used: int = 0
    """Bytes of it that were stored, and were not there before."""


class Storage:
    """Bytes stored for each tenant: its datasets, builders and jobs.

    A job counts with all that it can ever store, which its spec says, until it has failed or was cancelled:
    then with what there is of it.
    """

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limit = limits.storage_bytes_per_tenant
        self._uploads: dict[str, int] = {}
        self._entering: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of each tenant: one at a time is counted and let in."""
        self._set_aside: Counter[str] = Counter()

    @asynccontextmanager
    async def room_for(self, tenant: str, size: int) -> AsyncIterator[Room]:
        """Set aside `size` bytes while they arrive; at the block's end its `used` is what counts.

        Raises:
            StorageFull: the tenant has no room for them.
        """
        async with self._entering.setdefault(tenant, asyncio.Lock()):
            # Before it is counted: what is stored meanwhile counts twice, and is not missed.
            aside = self._set_aside[tenant]
            used = await self.used(tenant)
            if used + aside + size > self._limit:
                raise StorageFull(
                    f"your tenant stores {used} of {self._limit} bytes: no room for {size} more"
                )
            room = Room()
            self._set_aside[tenant] += size
        try:
            yield room
        finally:
            self._set_aside[tenant] -= size
            if tenant in self._uploads:
                self._uploads[tenant] += room.used

    async def used(self, tenant: str) -> int:
        """Bytes that the tenant stores. Its uploads are counted once, and then kept up."""
        if tenant not in self._uploads:
            self._uploads.setdefault(tenant, await self._sum(_uploads(tenant)))
        return self._uploads[tenant] + await self._sum(_jobs(tenant))

    def recount(self, tenant: str) -> None:
        """An upload of the tenant's was deleted: count again at the next occasion."""
        self._uploads.pop(tenant, None)

    async def _sum(self, queries: Sequence[Select[Any]]) -> int:
        async with self._database.reading() as session:
            return sum([await session.scalar(query) or 0 for query in queries])


def _uploads(tenant: str) -> Sequence[Select[Any]]:
    published = BuilderRow.tenant == tenant, BuilderRow.withdrawn_at.is_(None)
    return (
        select(func.sum(ChunkRow.size)).where(ChunkRow.tenant == tenant),
        select(func.sum(func.length(DatasetRow.manifest))).where(DatasetRow.tenant == tenant),
        select(func.sum(BuilderRow.size)).where(*published),
    )


def _jobs(tenant: str) -> Sequence[Select[Any]]:
    """Answered out of an index, as specs can be megabytes."""
    theirs = JobRow.tenant == tenant
    makes_no_more = JobRow.state.in_((JobState.FAILED, JobState.CANCELLED))
    stored = select(func.sum(ObjectRow.size)).join(JobRow, JobRow.id == ObjectRow.job)
    return (
        select(func.sum(JobRow.spec_bytes)).where(theirs),
        select(func.sum(JobRow.object_bytes)).where(theirs, ~makes_no_more),
        stored.where(theirs, makes_no_more),
    )


@contextmanager
def _counted(counter: Counter[str], name: str | None) -> Iterator[None]:
    """Count one while the block lasts; None counts nothing."""
    if name is None:
        yield
        return
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]
