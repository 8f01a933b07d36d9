"""When a door shows newer evidence: well before the collateral of what it shows has ended.

Evidence is refused by everybody from that end on, and the end is the collateral's own: Intel's is good for
about a month, but a host's cache may hand it out on its last day.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from chiron.runtime.attestation.validity import current_until
from chiron.runtime.errors import PlatformUnavailable
from chiron.wire.attestation import Evidence

LONGEST_S = 6 * 3600.0
"""Even where nothing ends: newer collateral may say of a TCB recovery."""
SOONEST_S = 60.0
"""Between two tries, however near the end is; doubled after each failure."""
_LOG = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Sleep = Callable[[float], Awaitable[None]]


async def keep_current(
    shown: Evidence,
    make: Callable[[], Evidence],
    show: Callable[[Evidence], None],
    *,
    clock: Clock = lambda: datetime.now(UTC),
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Make newer evidence in time, and `show` it, until cancelled. Failures are tried again soon."""
    failures = 0
    while True:
        await sleep(wait_s(shown, clock(), failures))
        try:
            newer = await asyncio.to_thread(make)
            current_until(newer.collateral)
        except PlatformUnavailable:
            failures += 1
            _LOG.warning("no newer evidence for the door's certificate: it keeps the one that it has")
            continue
        show(newer)
        shown, failures = newer, 0


def wait_s(shown: Evidence, now: datetime, failures: int) -> float:
    """How long what is shown may stay: half of what is left of it, less after failures."""
    try:
        left = (current_until(shown.collateral) - now).total_seconds()
    except PlatformUnavailable:
        left = 0.0
    wait = min(left / 2, LONGEST_S)
    if failures:
        wait = min(wait, SOONEST_S * 2.0 ** min(failures - 1, 10))
    return max(wait, SOONEST_S)
