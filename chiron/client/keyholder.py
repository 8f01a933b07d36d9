"""The keyholder: opens again, while the owner is away, what a host has started again.

A job's parameter server that was started again waits for its owner's grant. The keyholder looks for such
jobs, verifies each enclave by the owner's policy over a fresh nonce, sends the same grant again, and writes
that down. It holds what the owner's store holds, so it runs where the owner trusts the machine as much.

It opens nothing that the policy does not accept, nothing of a job that has ended, and no more in an hour than
it was told: a host that starts enclaves again all the time has a reason to.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from chiron.client.async_client import AsyncClient
from chiron.client.errors import GatewayError, PolicyMissing
from chiron.client.gateway_session import is_away
from chiron.client.granting import OPENINGS_AN_HOUR, HourlyLimit
from chiron.client.history import Deed, note
from chiron.client.store import JobRecord
from chiron.client.verifying import HOW_TO_GET_A_MEASUREMENT
from chiron.wire import codes
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.errors import ChironError
from chiron.wire.jobs import TERMINAL_STATES, Job

_LOG = logging.getLogger(__name__)
Facts: TypeAlias = dict[str, str | int]
Told: TypeAlias = Callable[[str, Deed, Facts], None]
LOOK_EVERY_S = 5.0
LONGEST_PAUSE_S = 300.0
"""Between two looks while the gateway is away, and between two attempts at a job that was refused."""
_ANOTHER_MAY_COME = frozenset(
    {
        codes.ENCLAVE_GONE,
        codes.ENCLAVE_NOT_RUNNING,
        codes.ENCLAVE_TIMEOUT,
        codes.GATEWAY_UNREACHABLE,
        codes.GRANT_ALREADY_GIVEN,
        codes.GRANT_UNREADABLE,
    }
)
"""Refusals that need no patience: the next look finds out what is there now."""


@dataclass
class _Refusal:
    code: str
    pause_s: float
    until: float


class Keyholder:
    """Opens again what waits for one owner, one job after the other."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        jobs: Collection[str] | None = None,
        policy: AttestationPolicy | None = None,
        most_an_hour: int = OPENINGS_AN_HOUR,
        told: Told = lambda _job, _deed, _facts: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of these `jobs`, or of all in the client's store; by `policy`, or by what each was granted under.

        `told` is called with everything that is written into a job's history.
        """
        self._client = client
        self._jobs = jobs
        self._policy = policy
        self._limit = HourlyLimit(most_an_hour, clock)
        self._told = told
        self._clock = clock
        self._refusals: dict[str, _Refusal] = {}

    async def run(self, stopping: asyncio.Event, look_every_s: float = LOOK_EVERY_S) -> None:
        """Look again and again, until `stopping` is set. No error of a job or of the gateway ends it."""
        pause = look_every_s
        while not stopping.is_set():
            there = await self.look()
            pause = look_every_s if there else min(pause * 2, LONGEST_PAUSE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)

    async def look(self) -> bool:
        """Open once what waits now. False where the gateway is away."""
        # Read anew each time: the owner's other commands write there too.
        for name in self._client.store.job_ids() if self._jobs is None else self._jobs:
            refusal = self._refusals.get(name)
            if refusal is not None and self._clock() < refusal.until:
                continue
            try:
                await self._look_at(name)
            except GatewayError as error:
                if is_away(error):
                    return False
                self._refuse(name, error)
            except ChironError as error:
                self._refuse(name, error)
            except Exception as error:
                # Whatever it is, the other jobs are not to suffer. Its words may quote what it stumbled on.
                _LOG.error("job %s: %s", name, type(error).__name__)
        return True

    async def _look_at(self, name: str) -> None:
        record = self._client.store.job(name)
        if record.terms is None or record.ended:
            return
        job = await self._client.job(name)
        if job.state in TERMINAL_STATES:
            self._client.store.note_ended(name)
        elif job.awaiting_owner:
            await self._open(record, job)

    async def _open(self, record: JobRecord, job: Job) -> None:
        policy = self._policy or record.policy
        if policy is None:
            raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
        if not self._limit.take():
            raise TooManyOpenings("enclaves are started again all the time: ask the operator why")
        self._client.policy = policy
        verified = await self._client.verify_job(job)
        await self._client.send_grant_again(verified)
        self._refusals.pop(record.spec.job, None)
        self._told(record.spec.job, Deed.GRANTED_AGAIN, {"measurement": verified.quote.measurement})

    def _refuse(self, name: str, error: ChironError) -> None:
        """Note a refusal once, and look at that job again later, and later each time."""
        if error.code in _ANOTHER_MAY_COME:
            return
        former = self._refusals.get(name)
        pause = min(former.pause_s * 2, LONGEST_PAUSE_S) if former else 2 * LOOK_EVERY_S
        self._refusals[name] = _Refusal(error.code, pause, self._clock() + pause)
        if former is None or former.code != error.code:
            facts: Facts = {"code": error.code, "reason": str(error)[:400]}
            note(self._client.store, name, Deed.REFUSED, **facts)
            self._told(name, Deed.REFUSED, facts)


class TooManyOpenings(ChironError):
    """As much was opened again in this hour as may be."""

    code = "too-many-openings"
