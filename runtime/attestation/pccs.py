"""Collateral for our own quotes, from the host's PCCS: signed by Intel, verified by whoever reads it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import dcap_qvl
from pydantic import ValidationError

from chiron.runtime.attestation.errors import PlatformUnavailable
from chiron.wire.attestation import Collateral

KEPT_S = 3600.0
"""Collateral is of the platform, not of one quote, and is good for weeks."""
TIMEOUT_S = 30.0

Fetch = Callable[[str, bytes], Awaitable["dcap_qvl.QuoteCollateralV3"]]


class Pccs:
    """Fetches collateral from the PCCS at `url`, and keeps it for an hour."""

    def __init__(
        self,
        url: str,
        *,
        fetch: Fetch = dcap_qvl.get_collateral,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._kept: tuple[float, Collateral] | None = None

    def __call__(self, quote: bytes) -> Collateral:
        """Collateral that verifies `quote`.

        Raises:
            PlatformUnavailable: the PCCS gave none.
        """
        if self._kept is None or self._clock() - self._kept[0] > KEPT_S:
            self._kept = (self._clock(), self._fetched(quote))
        return self._kept[1]

    def _fetched(self, quote: bytes) -> Collateral:
        # In a thread: whoever asks for a quote may be running an event loop.
        with ThreadPoolExecutor(1) as executor:
            try:
                fetched = executor.submit(asyncio.run, self._ask(quote)).result()
                return Collateral.model_validate_json(fetched)
            except (ValidationError, ValueError, OSError, TimeoutError) as error:
                raise PlatformUnavailable("the PCCS gave no collateral") from error

    async def _ask(self, quote: bytes) -> str:
        async with asyncio.timeout(TIMEOUT_S):
            return str((await self._fetch(self._url, quote)).to_json())
