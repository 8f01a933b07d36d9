"""Trying again while another process is away: pauses that grow, and an end to the patience.

Time is passed in. That is why this is not tenacity (read at 9.2.1): its start and stop are `time.monotonic`
whatever sleep it is given, and it counts from the first attempt, while ours may hold a connection open for
hours before it breaks. With our own stop and reset it would give us the `while` below, for 100 KB of code
that every enclave measures.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


class Backoff:
    """The pauses between the attempts to reach one peer, and how long it has been away."""

    def __init__(
        self,
        patience_s: float,
        *,
        first_pause_s: float = 0.05,
        longest_pause_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`patience_s` counts from the first failure; a last attempt is made when it ends."""
        self._patience_s = patience_s
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._clock = clock
        self._sleep = sleep
        self._gives_up_at: float | None = None
        self._pause_s = first_pause_s

    async def after(self, failure: Exception) -> None:
        """Pause before the next attempt. Raises `failure` itself where the peer was away for too long."""
        now = self._clock()
        if self._gives_up_at is None:
            self._gives_up_at = now + self._patience_s
        left = self._gives_up_at - now
        if left <= 0:
            raise failure
        await self._pause(left)

    def reset(self) -> None:
        """The peer was there: the next failure begins a new absence."""
        self._gives_up_at = None
        self._pause_s = self._first_pause_s

    async def pause(self) -> None:
        """Pause, however often: the peer is there, and has nothing for us yet."""
        self._gives_up_at = None
        await self._pause(self._longest_pause_s)

    async def _pause(self, at_most_s: float) -> None:
        pause = min(self._pause_s, at_most_s)
        self._pause_s = min(self._longest_pause_s, self._pause_s * 2)
        await self._sleep(pause)


async def retry(
    attempt: Callable[[], Awaitable[_T]], transient: Callable[[Exception], bool], backoff: Backoff
) -> _T:
    """The result of `attempt`, which is made again after every failure that is `transient`.

    A cancellation is no failure and ends it at once, in an attempt as in a pause.

    Raises:
        Exception: what `attempt` raised: not transient, or the last before the patience of `backoff` ended.
    """
    while True:
        try:
            return await attempt()
        except Exception as failure:
            if not transient(failure):
                raise
            await backoff.after(failure)
