"""What one caller and one tenant may take of the gateway: requests, event streams, storage.

None may have all that there is, so nobody can keep the others out.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from sqlalchemy import func, select

from chiron.api.errors import StorageFull, TooManyRequests, TooManyStreams
from chiron.api.settings import Limits
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow, ChunkRow, DatasetRow, JobRow

_BUCKETS = 10_000
"""Callers remembered before those are forgotten who have asked nothing for long."""


class Rate:
    """A token bucket for each caller: `burst` requests at once, and `per_s` a second in the long run."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Of each caller: the tokens that it had, and when."""

    def take(self, caller: str) -> None:
        """Count a request.

        Raises:
            TooManyRequests: with the time until there is a token again.
        """
        now = self._clock()
        if len(self._buckets) >= _BUCKETS:
            self._buckets = {name: bucket for name, bucket in self._buckets.items() if not self._full(bucket)}
        tokens = self._tokens(self._buckets.get(caller, (self._burst, now)))
        if tokens < 1:
            raise TooManyRequests(
                f"more than {self._per_s:g} requests a second", retry_after_s=(1 - tokens) / self._per_s
            )
        self._buckets[caller] = tokens - 1, now

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._buckets)

    def _tokens(self, bucket: tuple[float, float]) -> float:
        tokens, at = bucket
        return min(self._burst, tokens + (self._clock() - at) * self._per_s)

    def _full(self, bucket: tuple[float, float]) -> bool:
        return self._tokens(bucket) >= self._burst


class Rates:
    """The rate of every API key, and that of every tenant with all its keys."""

    def __init__(self, limits: Limits) -> None:
        self._keys = Rate(limits.requests_per_s, limits.requests_burst)
        self._tenants = Rate(limits.tenant_requests_per_s, limits.tenant_requests_burst)

    def take(self, key_id: str, tenant: str) -> None:
        """Count a request; raises `TooManyRequests`."""
        self._keys.take(key_id)
        self._tenants.take(tenant)


class Streams:
    """Event streams that are open, of each tenant and in all."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_of(self, tenant: str) -> Iterator[None]:
        """Count a stream while the block lasts.

        Raises:
            TooManyStreams: the gateway, or this tenant, has as many as it may.
        """
        if self._open[tenant] >= self._limits.event_streams_per_tenant:
            raise TooManyStreams("as many event streams are open as your tenant may have")
        if self._open.total() >= self._limits.event_streams:
            raise TooManyStreams("as many event streams are open as this gateway allows")
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            self._open += Counter()  # Forgets tenants that have none.


@dataclass
class Room:
    """Storage that is set aside for something that arrives."""

    used: int = 0
    """Bytes of it that were stored, and were not there before."""


class Storage:
    """Bytes stored for each tenant: its datasets, builders, and the specs of its jobs."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limit = limits.storage_bytes_per_tenant
        self._used: dict[str, int] = {}
        self._set_aside: Counter[str] = Counter()

    @asynccontextmanager
    async def room_for(self, tenant: str, size: int) -> AsyncIterator[Room]:
        """Set aside `size` bytes while they arrive; at the block's end its `used` is what counts.

        Raises:
            StorageFull: the tenant has no room for them.
        """
        used = await self.used(tenant)
        if used + self._set_aside[tenant] + size > self._limit:
            raise StorageFull(f"your tenant stores {used} of {self._limit} bytes: no room for {size} more")
        room = Room()
        self._set_aside[tenant] += size
        try:
            yield room
        finally:
            self._set_aside[tenant] -= size
            if tenant in self._used:
                self._used[tenant] += room.used

    async def used(self, tenant: str) -> int:
        """Bytes that the tenant stores; counted once, and then kept up."""
        if tenant not in self._used:
            self._used.setdefault(tenant, await self._count(tenant))
        return self._used[tenant]

    def recount(self, tenant: str) -> None:
        """Something of the tenant's was deleted: count again at the next occasion."""
        self._used.pop(tenant, None)

    async def _count(self, tenant: str) -> int:
        sums = [
            select(func.sum(ChunkRow.size)).where(ChunkRow.tenant == tenant),
            select(func.sum(func.length(DatasetRow.manifest))).where(DatasetRow.tenant == tenant),
            select(func.sum(BuilderRow.size)).where(
                BuilderRow.tenant == tenant, BuilderRow.withdrawn_at.is_(None)
            ),
            select(func.sum(func.length(JobRow.spec))).where(JobRow.tenant == tenant),
        ]
        async with self._database.reading() as session:
            return sum([await session.scalar(query) or 0 for query in sums])
