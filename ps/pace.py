"""Pacing: changes leave at fixed times, so that how long a trainer computed is not seen.

A period longer than the slowest computing makes the times of all exchanges public. Who is not ready at a tick
takes the next one, so too short a period tells the host at which exchanges somebody was late, and no more.
"""

import asyncio
import math


class Pace:
    """Ticks at multiples of `period_s` after the trial's start; without a period, always."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._began = 0.0
        self._ticks = 0

    def begin(self) -> None:
        """A trial starts now."""
        self._began = asyncio.get_running_loop().time()
        self._ticks = 0

    async def tick(self) -> None:
        """Wait for the next tick that nothing was sent at."""
        if self._period_s == 0:
            return
        elapsed = asyncio.get_running_loop().time() - self._began
        self._ticks = max(self._ticks + 1, math.ceil(elapsed / self._period_s))
        await asyncio.sleep(self._began + self._ticks * self._period_s - asyncio.get_running_loop().time())
