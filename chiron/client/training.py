"""Training, from a request to what became of it.

1. The job is created.
2. Its parameter server is verified, once it waits for the grant.
3. The grant is sealed to it. If the gateway or the enclave was restarted meanwhile, whoever is there now is
   verified before it is granted anything.
4. The job is followed to its end. A parameter server that is started again on the way waits for its owner: it
   is verified, and sent the same grant again.
5. Its outcome and reports, which only the owner can read, are opened.

A job that gets no grant would hold its enclaves until its deadline: whatever stops the first three steps
cancels it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chiron.client.errors import GatewayError, GrantImpossible
from chiron.client.granting import HourlyLimit
from chiron.client.jobs import raise_if_ended_badly
from chiron.client.store import GrantTerms
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.wire import codes
from chiron.wire.jobs import Job, JobRequest, JobState
from chiron.wire.reports import Outcome, TrainingReport

if TYPE_CHECKING:
    from chiron.client.async_client import AsyncClient

GRANT_ATTEMPTS = 5
_RESTARTED = frozenset(
    {
        codes.GATEWAY_UNREACHABLE,
        codes.ENCLAVE_GONE,
        codes.ENCLAVE_NOT_RUNNING,
        codes.ENCLAVE_TIMEOUT,
        codes.GRANT_UNREADABLE,
    }
)
"""Codes after which the parameter server may be another process than the one that was verified."""


@dataclass(frozen=True)
class Created:
    """The job exists and has been granted nothing."""

    job: Job


@dataclass(frozen=True)
class Verified:
    """The parameter server's evidence holds. The grant is sent next: who stops here refuses it."""

    evidence: VerifiedEvidence
    again: bool = False
    """The gateway or the enclave was restarted since the last time."""


@dataclass(frozen=True)
class Granted:
    """The dataset's key is sealed to the enclave of this evidence."""

    evidence: VerifiedEvidence
    again: bool = False
    """The job had its grant, and its parameter server was started again."""


@dataclass(frozen=True)
class Progressed:
    """The job's public progress changed."""

    job: Job


@dataclass(frozen=True)
class Finished:
    """The job ran its schedule. Its outcome says whether there is a model."""

    job: Job
    evidence: VerifiedEvidence
    outcome: Outcome
    reports: list[TrainingReport]


Stage = Created | Verified | Granted | Progressed | Finished


async def training_stages(
    client: "AsyncClient", request: JobRequest, terms: GrantTerms
) -> AsyncGenerator[Stage]:
    """Create a job, and take it to its end; see `AsyncClient.training`."""
    await client.check_machines(terms.machines)
    job = await client.create_job(request)
    try:
        yield Created(job)
        async for stage in grant_stages(client, job, terms):
            if isinstance(stage, Verified):
                yield stage
    except BaseException:
        with suppress(GatewayError):
            await client.cancel(job)
        raise
    yield stage
    last, limit = job, HourlyLimit()
    async for last in client.watch(job):
        yield Progressed(last)
        if last.awaiting_owner:
            async for again in regrant_stages(client, job, limit):
                yield again
    raise_if_ended_badly(last)
    yield Finished(last, stage.evidence, await client.outcome(job), await client.reports(job))


async def grant_stages(
    client: "AsyncClient", job: Job, terms: GrantTerms
) -> AsyncGenerator[Verified | Granted]:
    """Verify a job's parameter server and send the grant, to whoever is there after restarts too.

    Raises:
        EvidenceRejected, PolicyMissing: the enclave is not what the policy accepts.
        JobEnded: the job failed before it could be granted anything.
        GatewayError: it refused the grant, or restarted too often.
    """
    evidence = await _attested(client, job)
    yield Verified(evidence)
    for attempt in range(GRANT_ATTEMPTS):
        try:
            if attempt:
                evidence = await _attested(client, job)
                yield Verified(evidence, again=True)
            await client.send_grant(evidence, terms=terms)
            break
        except GatewayError as error:
            if attempt and error.code == codes.GRANT_ALREADY_GIVEN:
                # An earlier attempt arrived, and only its answer was lost.
                break
            if error.code not in _RESTARTED or attempt == GRANT_ATTEMPTS - 1:
                raise
    yield Granted(evidence)


async def regrant_stages(
    client: "AsyncClient", job: Job, limit: HourlyLimit
) -> AsyncGenerator[Verified | Granted]:
    """Verify a parameter server that was started again, and send it the same grant, while it waits for that.

    Raises:
        EvidenceRejected, PolicyMissing: the enclave is not what the policy accepts.
        GrantImpossible: it has expired, the job has ended, or it is started again all the time.
        GatewayError: the enclave refused the grant, or was started again too often.
    """
    for attempt in range(GRANT_ATTEMPTS):
        try:
            # What a followed job tells may be of yesterday.
            if not (await client.job(job)).awaiting_owner:
                return
            if not limit.take():
                raise GrantImpossible(
                    "its parameter server is started again all the time: ask the operator why",
                    code="restarted-too-often",
                )
            evidence = await client.verify_job(job)
            yield Verified(evidence, again=True)
            await client.send_grant_again(evidence)
        except GatewayError as error:
            if error.code == codes.GRANT_ALREADY_GIVEN:
                return
            if error.code not in _RESTARTED or attempt == GRANT_ATTEMPTS - 1:
                raise
        else:
            yield Granted(evidence, again=True)
            return


async def _attested(client: "AsyncClient", job: Job) -> VerifiedEvidence:
    """Evidence of the job's parameter server, once it waits for the grant."""
    async with aclosing(client.watch(job)) as states:
        async for now in states:
            raise_if_ended_badly(now)
            if now.state not in (JobState.CREATED, JobState.LAUNCHING):
                break
    return await client.verify_job(job)
