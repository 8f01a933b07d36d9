"""How often one caller, one tenant and one address may ask.

None may have all that there is. Within a tenant its guests and auditors have a part, so that the rest is
always there for its owner, who may have to dismiss one of them.
"""

import time
from collections.abc import Callable

from chiron.api.errors import TooManyRequests
from chiron.api.keys import Principal
from chiron.api.settings import Limits

MESSAGE_UNIT = 256 * 1024
"""Of a sealed message, which is decoded and passed on."""
MANIFEST_UNIT = 16 * 1024
"""Of a manifest, or a spec with one, which is parsed, put in canonical form and hashed."""
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

    def charge(self, caller: str, requests: int) -> None:
        """Count as so many requests more what is being answered: its caller waits for it afterwards."""
        now = self._clock()
        self._buckets[caller] = self._tokens(self._buckets.get(caller, (self._burst, now))) - requests, now

    def spent(self, caller: str) -> bool:
        """Whether `take` would refuse."""
        return caller in self._buckets and self._tokens(self._buckets[caller]) < 1

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._buckets)

    def _tokens(self, bucket: tuple[float, float]) -> float:
        tokens, at = bucket
        return min(self._burst, tokens + (self._clock() - at) * self._per_s)

    def _full(self, bucket: tuple[float, float]) -> bool:
        return self._tokens(bucket) >= self._burst


class Rates:
    """The rate of every API key, that of every tenant with all its keys, and that of whoever has none."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = Rate(limits.requests_per_s, limits.requests_burst, clock)
        self._visitors = Rate(limits.visitor_requests_per_s, limits.visitor_requests_burst, clock)
        self._tenants = Rate(limits.tenant_requests_per_s, limits.tenant_requests_burst, clock)
        self._addresses = Rate(limits.keyless_requests_per_s, limits.keyless_requests_burst, clock)

    def take(self, caller: Principal) -> None:
        """Count a request; raises `TooManyRequests`."""
        self._keys.take(caller.key_id)
        if caller.visits:
            self._visitors.take(caller.tenant)
        self._tenants.take(caller.tenant)

    def charge(self, caller: Principal, size: int, unit: int) -> None:
        """Count a request as one more for every `unit` bytes of it, which take their time."""
        requests = size // unit
        if not requests:
            return
        self._keys.charge(caller.key_id, requests)
        if caller.visits:
            self._visitors.charge(caller.tenant, requests)
        self._tenants.charge(caller.tenant, requests)

    def take_keyless(self, address: str) -> None:
        """Count a request from this address that had no key that holds; raises `TooManyRequests`."""
        self._addresses.take(address)

    def keyless_spent(self, address: str) -> bool:
        """Whether so many came from this address that only callers who are known are looked up."""
        return self._addresses.spent(address)
