"""A door shows newer evidence well before the collateral of what it shows has ended.

Evidence is refused by everybody from that end on, and the end is the collateral's own: Intel's is good for
about a month, but a host's cache may hand it out on its last day.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from chiron.runtime.attestation.validity import current_until
from chiron.runtime.errors import EnclaveError, PlatformUnavailable
from chiron.wire.attestation import Evidence

LONGEST_S = 6 * 3600.0
"""Even where nothing ends: newer collateral may say of a TCB recovery."""
SOONEST_S = 60.0
"""Between two tries, however near the end is; doubled after each failure."""
_LOG = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Sleep = Callable[[float], Awaitable[None]]
Show = Callable[[Evidence], Awaitable[None]]
"""May raise `EnclaveError`, where somebody could not be told of it: it is tried again then."""


@asynccontextmanager
async def kept_current(
    shown: Evidence, make: Callable[[], Evidence], show: Show, *, clock: Clock = lambda: datetime.now(UTC)
) -> AsyncIterator[None]:
    """`keep_current` while the block lasts."""
    renewing = asyncio.create_task(keep_current(shown, make, show, clock=clock))
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


async def keep_current(
    shown: Evidence,
    make: Callable[[], Evidence],
    show: Show,
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
            await show(newer)
        except (PlatformUnavailable, EnclaveError) as error:
            failures += 1
            _LOG.warning("no newer evidence is shown at the door yet: %s", error.code)
            continue
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
