"""Training, from a request to what became of it.

1. The job is created.
2. Its parameter server is verified, once it waits for the grant.
3. The grant is sealed to it. If the gateway or the enclave was restarted meanwhile, whoever is there now is
   verified before it is granted anything.
4. The job is followed to its end.
5. Its outcome and reports, which only the owner can read, are opened.

A job that gets no grant would hold its enclaves until its deadline: whatever stops the first three steps
cancels it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chiron.client.builders import in_words
from chiron.client.errors import GatewayError, SpecMismatch
from chiron.client.jobs import raise_if_ended_badly
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.sealing import hpke
from chiron.wire import codes
from chiron.wire.attestation import Role
from chiron.wire.contract import Capability, CapabilityGrants
from chiron.wire.grants import Grant, PredictionPolicy
from chiron.wire.jobs import Job, JobRequest, JobState
from chiron.wire.labels import GRANT
from chiron.wire.public_api import BuilderInfo
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
_CAPABILITY_WORDS = {
    Capability.LOG: "write log lines, which are counted and thrown away",
    Capability.DATASET_SHAPE: "know the dataset's shape and number of examples",
    Capability.DATASET_STATISTICS: "see class counts, means, deviations and quantiles",
    Capability.DATASET_SAMPLE: "look at single examples",
    Capability.RANDOM: "draw random numbers from the job's seed",
}


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
    client: "AsyncClient", request: JobRequest, capabilities: CapabilityGrants, prediction: PredictionPolicy
) -> AsyncGenerator[Stage]:
    """Create a job, and take it to its end; see `AsyncClient.training`."""
    job = await client.create_job(request)
    try:
        yield Created(job)
        async for stage in grant_stages(client, job, capabilities, prediction):
            if isinstance(stage, Verified):
                yield stage
    except BaseException:
        with suppress(GatewayError):
            await client.cancel(job)
        raise
    yield stage
    last = job
    async for last in client.watch(job):
        yield Progressed(last)
    raise_if_ended_badly(last)
    yield Finished(last, stage.evidence, await client.outcome(job), await client.reports(job))


async def grant_stages(
    client: "AsyncClient", job: Job, capabilities: CapabilityGrants, prediction: PredictionPolicy
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
            await client.send_grant(evidence, capabilities=capabilities, prediction=prediction)
            break
        except GatewayError as error:
            if attempt and error.code == codes.GRANT_ALREADY_GIVEN:
                # An earlier attempt arrived, and only its answer was lost.
                break
            if error.code not in _RESTARTED or attempt == GRANT_ATTEMPTS - 1:
                raise
    yield Granted(evidence)


async def _attested(client: "AsyncClient", job: Job) -> VerifiedEvidence:
    """Evidence of the job's parameter server, once it waits for the grant."""
    async with aclosing(client.watch(job)) as states:
        async for now in states:
            raise_if_ended_badly(now)
            if now.state not in (JobState.CREATED, JobState.LAUNCHING):
                break
    return await client.verify_job(job)


def seal_grant(verified: VerifiedEvidence, grant: Grant) -> bytes:
    """The grant, sealed to the parameter server that `verified` speaks of. There is no other way to seal one.

    Raises:
        SpecMismatch: the evidence is of another role or job than the grant.
    """
    claims = verified.claims
    if claims.role is not Role.PARAMETER_SERVER or claims.job != grant.job or claims.hpke_public_key is None:
        raise SpecMismatch("the evidence is not of this job's parameter server")
    plaintext = grant.model_dump_json().encode()
    return hpke.seal(claims.hpke_public_key, plaintext, label=GRANT, context=bytes.fromhex(grant.job))


def grant_in_words(
    capabilities: CapabilityGrants, prediction: PredictionPolicy, builder: BuilderInfo | None = None
) -> list[str]:
    """A grant in words: what it allows, one sentence a line, for the owner to agree to."""
    lines = ["The verified enclaves may decrypt this dataset, for this job only."]
    if builder is not None:
        lines.append(f"The builder is {in_words(builder)}; no other runs in this job.")
    for capability in sorted(capabilities.granted):
        words = _CAPABILITY_WORDS[capability]
        if capability is Capability.DATASET_SAMPLE:
            words = f"look at {capabilities.sample_examples} single examples"
        lines.append(f"The builder, confined, may {words} ({capability}).")
    withheld = ", ".join(sorted(set(Capability) - capabilities.granted))
    if withheld:
        lines.append(f"The builder gets nothing of: {withheld}.")
    told = f"the best {prediction.top_k} classes" if prediction.top_k else "every class's score"
    budget = f"at most {prediction.query_budget} rows" if prediction.query_budget else "any number of rows"
    lines.append(f"Predictions tell {told}, rounded to {prediction.decimals} decimals, for {budget}.")
    return lines
