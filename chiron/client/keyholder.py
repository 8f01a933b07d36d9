"""The keyholder: opens again, while the owner is away, what a host has started again.

A job's parameter server that was started again waits for its owner's grant, and a predictor for an opening.
The keyholder looks for both, verifies each enclave by the owner's policy over a fresh nonce, sends the same
grant again or opens the model with the passes in force, and writes that down. It holds what the owner's store
holds, so it runs where the owner trusts the machine as much.

It opens nothing that the policy does not accept, grants nothing to a job that has ended, starts nothing, and
opens no more in an hour than it was told: a host that starts enclaves again all the time has a reason to.
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
from chiron.client.opening import Opened
from chiron.client.store import JobRecord
from chiron.client.verifying import HOW_TO_GET_A_MEASUREMENT
from chiron.wire import codes
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.errors import ChironError
from chiron.wire.jobs import TERMINAL_STATES, Job, JobState
from chiron.wire.public_api import PredictorState

_LOG = logging.getLogger(__name__)
Facts: TypeAlias = dict[str, str | int]
Told: TypeAlias = Callable[[str, Deed, Facts], None]
LOOK_EVERY_S = 5.0
OPEN_LOOK_EVERY_S = 15.0
"""At a predictor that was open: evidence costs it a quote."""
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
        codes.OPENING_UNREADABLE,
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
        self._open_until: dict[str, float] = {}
        """Predictors that were open, and when each is looked at next."""
        self._has_model: dict[str, bool] = {}
        """Of jobs that have ended: whether with a model."""

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
        if record.terms is None or not self._has_model.get(name, True):
            return
        if record.ended:
            await self._look_at_predictor(record)
            return
        job = await self._client.job(name)
        if job.state in TERMINAL_STATES:
            self._client.store.note_ended(name)
            await self._look_at_predictor(record)
        elif job.awaiting_owner:
            await self._grant_again(record, job)

    async def _look_at_predictor(self, record: JobRecord) -> None:
        name = record.spec.job
        if self._clock() < self._open_until.get(name, 0.0):
            if (await self._client.gateway.predictor(name)).state is not PredictorState.READY:
                del self._open_until[name]
            return
        if not await self._model_of(name):
            return
        self._take_policy(record)
        if await self._client.open_if_running(name, self._opened, self._count) is None:
            self._open_until.pop(name, None)
            return
        self._refusals.pop(name, None)
        self._open_until[name] = self._clock() + OPEN_LOOK_EVERY_S

    async def _model_of(self, name: str) -> bool:
        if name not in self._has_model:
            try:
                state = (await self._client.job(name)).state
            except GatewayError as error:
                if error.status != 404:
                    raise
                # Deleted there, or never of this gateway.
                self._has_model[name] = False
            else:
                self._has_model[name] = state is JobState.SUCCEEDED
        return self._has_model[name]

    async def _grant_again(self, record: JobRecord, job: Job) -> None:
        self._take_policy(record)
        self._count()
        verified = await self._client.verify_job(job)
        await self._client.send_grant_again(verified)
        self._refusals.pop(record.spec.job, None)
        self._told(record.spec.job, Deed.GRANTED_AGAIN, {"measurement": verified.quote.measurement})

    def _take_policy(self, record: JobRecord) -> None:
        policy = self._policy or record.policy
        if policy is None:
            raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
        self._client.policy = policy

    def _count(self) -> None:
        if not self._limit.take():
            raise TooManyOpenings("enclaves are started again all the time: ask the operator why")

    def _opened(self, opened: Opened) -> None:
        self._told(opened.job, Deed.OPENED, opened.facts)

    def _refuse(self, name: str, error: ChironError) -> None:
        """Note a refusal once, and look at that job again later, and later each time."""
        if error.code in _ANOTHER_MAY_COME:
            return
        former = self._refusals.get(name)
        pause = min(former.pause_s * 2, LONGEST_PAUSE_S) if former else 2 * LOOK_EVERY_S
        self._refusals[name] = _Refusal(error.code, pause, self._clock() + pause)
        if former is None or former.code != error.code:
            facts: Facts = {"code": error.code, "reason": str(error)[:400]}
            self._told(name, Deed.REFUSED, facts)
            try:
                note(self._client.store, name, Deed.REFUSED, **facts)
            except ChironError as unwritten:
                # An altered history of one job is no reason to leave the others alone.
                _LOG.error("job %s: %s", name, unwritten)


class TooManyOpenings(ChironError):
    """As much was opened again in this hour as may be."""

    code = "too-many-openings"
