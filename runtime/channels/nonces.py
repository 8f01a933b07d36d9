"""Nonces that cost nothing until they are used: a flood of challenges makes nobody forget an honest one.

    8 bytes   when it was issued, in milliseconds of the clock, big-endian
    8 bytes   random
    16 bytes  HMAC-SHA-256 of both, cut, under a key that this process drew

Only those that fresh evidence was verified over are remembered, until they are too old anyway. Each of these
cost an enclave a quote.
"""

import hmac
import secrets
import struct
import time
from collections.abc import Callable

from chiron.runtime.errors import EnrolmentRefused

LIFETIME_S = 600.0
_HEAD = struct.Struct(">Q8s")
_TAG_BYTES = 16


class Nonces:
    """Issues nonces and knows its own again. A clock that the host sets back stands still for it."""

    def __init__(self, lifetime_s: float = LIFETIME_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = secrets.token_bytes(32)
        self._lifetime_ms = int(lifetime_s * 1000)
        self._clock = clock
        self._now_ms = 0
        self._used: dict[bytes, int] = {}
        """Nonces that were used, and when each was issued."""

    def issue(self) -> bytes:
        """A fresh nonce of 32 bytes, good for one use."""
        head = _HEAD.pack(self._tick(), secrets.token_bytes(8))
        return head + self._tag(head)

    def check(self, nonce: bytes) -> None:
        """
        Raises:
            EnrolmentRefused: it is none of ours, is too old, or was used.
        """
        head = nonce[: _HEAD.size]
        ours = len(nonce) == _HEAD.size + _TAG_BYTES and hmac.compare_digest(
            nonce[_HEAD.size :], self._tag(head)
        )
        if not ours or nonce in self._used or self._tick() - _issued(nonce) > self._lifetime_ms:
            raise EnrolmentRefused("enrolment-nonce", "the evidence is not over a nonce of ours")

    def use_up(self, nonce: bytes) -> None:
        """Take `nonce`, which was checked, no second time."""
        oldest = self._tick() - self._lifetime_ms
        self._used = {used: issued for used, issued in self._used.items() if issued >= oldest}
        self._used[nonce] = _issued(nonce)

    def _tick(self) -> int:
        self._now_ms = max(self._now_ms, int(self._clock() * 1000))
        return self._now_ms

    def _tag(self, head: bytes) -> bytes:
        return hmac.digest(self._key, head, "sha256")[:_TAG_BYTES]


def _issued(nonce: bytes) -> int:
    issued: int = _HEAD.unpack_from(nonce)[0]
    return issued
