"""Notices the end of API keys whose callers are being answered for long: revoked, dismissed or expired.

Keys are revoked by other processes as well (`chiron keys revoke`), so the database is asked: of all of them
together, while there are any.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from chiron.api.errors import Unauthenticated
from chiron.api.keys import KeyRing, Principal
from chiron.api.problems import log_unexpected

LOOK_EVERY_S = 0.5


@dataclass
class _Watched:
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    callers: int = 0


class KeyWatch:
    """Of one gateway."""

    def __init__(self, keys: KeyRing, look_every_s: float = LOOK_EVERY_S) -> None:
        self._keys = keys
        self._look_every_s = look_every_s
        self._watched: dict[str, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, caller: Principal) -> Iterator[asyncio.Event]:
        """An event that is set, while the block lasts, once the caller's key holds no longer."""
        watched = self._watched.setdefault(caller.key_id, _Watched())
        watched.callers += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield watched.ended
        finally:
            watched.callers -= 1
            if not watched.callers:
                del self._watched[caller.key_id]

    async def close(self) -> None:
        """Watch no more."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        while self._watched:
            await asyncio.sleep(self._look_every_s)
            held = await self._holding()
            for key_id, watched in self._watched.items():
                if key_id not in held:
                    watched.ended.set()

    async def _holding(self) -> Collection[str]:
        try:
            return await self._keys.holding(tuple(self._watched))
        except SQLAlchemyError as error:
            # Whose keys cannot be looked up are not answered any further.
            log_unexpected(error)
            return ()


async def until(ended: asyncio.Event, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`content`, as long as its caller's key has not `ended`; raises `Unauthenticated`."""
    async for piece in content:
        if ended.is_set():
            raise Unauthenticated("the key is not valid any more")
        yield piece
