"""A sealed model as its host keeps it: read at a predictor's start, and again where it does not open.

A host whose storage was damaged can mend it, and the predictor need not be started anew for that. Nobody but
the model's owner can tell a damaged model from a wrong share, and strangers send wrong shares. So it is
not read again more often than every `AGAIN_S` seconds.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from chiron.runtime.errors import EnclaveError

AGAIN_S = 10.0
READING_S = 120.0
"""How long an opening waits for a model that is read again."""
_LOG = logging.getLogger(__name__)


class StoredModel:
    """The bytes, and where they come from."""

    def __init__(
        self,
        sealed: bytes,
        read: Callable[[], Awaitable[bytes]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sealed = sealed
        """As it was read last."""
        self._read = read
        self._now = now
        self._read_at = now()

    async def read_again(self) -> bool:
        """Whether the host keeps another one by now; False, too, where it was read a moment ago."""
        if self._now() - self._read_at < AGAIN_S:
            return False
        before = self.sealed
        try:
            async with asyncio.timeout(READING_S):
                self.sealed = await self._read()
        except (EnclaveError, TimeoutError):
            _LOG.warning("the stored model could not be read again")
        self._read_at = self._now()
        return self.sealed != before
