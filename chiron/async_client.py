"""The data owner's client: every promise that the owner relies on is checked here, none by the gateway."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from chiron import uploads
from chiron.configuration import load_configuration
from chiron.datasets.bundle import Bundle
from chiron.errors import EvidenceRejected, PolicyMissing, RecordMissing, ReportUnreadable
from chiron.gateway import GatewaySession
from chiron.granting import seal_grant
from chiron.jobs import check_spec, raise_if_ended_badly, watch
from chiron.policies import HOW_TO_GET_A_MEASUREMENT
from chiron.predictions import Predictions
from chiron.querying import PredictorSession
from chiron.ra_tls import attested_connector
from chiron.store import JobRecord, OwnerStore
from runtime.attestation.errors import EvidenceRefused
from runtime.attestation.verify import Expected, VerifiedEvidence, verify
from runtime.reports import open_outcome, open_report
from runtime.sealing.errors import OpenFailed
from runtime.sealing.hpke import PrivateKey
from runtime.wire.attestation import AttestationPolicy, Role
from runtime.wire.builders import BuilderInfo
from runtime.wire.enclave_api import ObjectInfo, Observation
from runtime.wire.encoding import sha256_hex
from runtime.wire.grants import Grant, PredictionPolicy
from runtime.wire.jobs import Job, JobRequest, JobSpec
from runtime.wire.reports import OUTCOME_OBJECT, Outcome, TrainingReport
from wasm_sandbox.contract import CapabilityGrants

Clock = Callable[[], datetime]
Advance = Callable[[int, int], None]
"""Called with what is done and what there is to do."""
JobId = str | Job


class AsyncClient:
    """Speaks to one gateway for one owner. Use as an async context manager.

    `policy` says which enclaves are acceptable. Without one everything works that entrusts nothing to an
    enclave.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        policy: AttestationPolicy | None = None,
        store: OwnerStore | None = None,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        """`url` and `api_key` default to the configuration (`chiron.configuration`).

        Raises:
            ConfigurationMissing, ConfigurationInvalid: it does not say them either.
        """
        configuration = load_configuration()
        self.gateway = GatewaySession(
            url or configuration.gateway_url(), api_key or configuration.gateway_key()
        )
        self.policy = policy
        self.store = store or OwnerStore()
        self._clock = clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.close()

    async def upload_builder(self, component: bytes, manifest: bytes) -> BuilderInfo:
        """As operator: publish a builder; its identity is the component's SHA-256.

        Raises:
            GatewayError: as every method here, where the gateway refuses or cannot be reached.
        """
        return await uploads.upload_builder(self.gateway, component, manifest)

    async def builders(self) -> list[BuilderInfo]:
        """The builders that this gateway offers."""
        return await self.gateway.get("/v1/builders", list[BuilderInfo])

    async def builder(self, sha256: str) -> BuilderInfo:
        """One builder: what it asks for and how large its models may be."""
        return await self.gateway.get(f"/v1/builders/{sha256}", BuilderInfo)

    async def upload_dataset(self, bundle: Bundle | Path, advance: Advance | None = None) -> str:
        """Upload an encrypted dataset; what the gateway has already is not sent again. Returns its id.

        Raises:
            BundleInvalid: the bundle is incomplete or altered.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        await uploads.upload_dataset(self.gateway, opened, advance)
        return opened.manifest.dataset_id

    async def create_job(self, request: JobRequest) -> Job:
        """Create a job and remember it; the answered spec must be the one asked for.

        Raises:
            RecordMissing: the dataset was not encrypted on this machine.
            SpecMismatch: the gateway made another job of it.
        """
        dataset = self.store.dataset(request.dataset_id)
        job = await self.gateway.create_job(request)
        check_spec(job.spec, request, dataset.manifest)
        owner_key = PrivateKey.generate().private_bytes
        self.store.save_job(JobRecord(spec=job.spec, owner_key=owner_key, class_names=dataset.class_names))
        return job

    async def job(self, job: JobId) -> Job:
        """The job as the gateway tells it."""
        return await self.gateway.job(_id(job))

    async def jobs(self) -> list[Job]:
        """All jobs of this API key's tenant."""
        return await self.gateway.get("/v1/jobs", list[Job])

    async def verify_job(self, job: JobId, role: Role = Role.PARAMETER_SERVER) -> VerifiedEvidence:
        """Fetch evidence over a fresh random nonce and verify it; its `steps` say what was checked.

        A predictor must show that it serves our model, where the job was created on this machine.

        Raises:
            PolicyMissing: this client was given no policy.
            EvidenceRejected: a step did not hold.
        """
        return await self._verified(self.gateway, _id(job), role)

    async def _verified(self, session: GatewaySession, job: str, role: Role) -> VerifiedEvidence:
        if self.policy is None:
            raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
        nonce = secrets.token_bytes(32)
        evidence = await session.evidence(job, role, nonce)
        try:
            expected = Expected(role, job, nonce, owner_key_sha256=self._owner_key(job, role))
            return verify(evidence, self.policy, expected, self._clock())
        except EvidenceRefused as error:
            raise EvidenceRejected(str(error), code=error.code, steps=error.steps) from error

    def _owner_key(self, job: str, role: Role) -> str | None:
        try:
            record = self.store.job(job)
        except RecordMissing:
            return None
        return sha256_hex(record.signing_public_key) if role is Role.PREDICTOR else None

    async def send_grant(
        self,
        verified: VerifiedEvidence,
        *,
        capabilities: CapabilityGrants | None = None,
        prediction: PredictionPolicy | None = None,
    ) -> Grant:
        """Entrust the dataset's key to the parameter server of verified evidence, for its job only.

        Raises:
            PolicyMissing: this client was given no policy.
            RecordMissing: the job was not created, or the dataset not encrypted, on this machine.
        """
        if self.policy is None:
            raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
        record = self.store.job(verified.claims.job)
        grant = Grant(
            job=record.spec.job,
            dataset_key=self.store.dataset(record.spec.dataset.dataset_id).key,
            dataset_digest=record.spec.dataset.digest(),
            spec_digest=record.spec.digest(),
            attestation=self.policy,
            capabilities=capabilities or CapabilityGrants(),
            prediction=prediction or PredictionPolicy(),
            owner_public_key=record.private_key.public_bytes,
            owner_signing_key=record.signing_public_key,
            issued_at=int(self._clock().timestamp()),
        )
        await self.gateway.relay(f"/v1/jobs/{grant.job}/grant", seal_grant(verified, grant))
        self.store.save_job(record.model_copy(update={"policy": self.policy}))
        return grant

    def watch(self, job: JobId) -> AsyncGenerator[Job]:
        """The job each time its public progress changes, until it has ended."""
        return watch(self.gateway, _id(job))

    async def wait(self, job: JobId) -> Job:
        """Wait until the job has run its schedule.

        Raises:
            JobEnded: it failed or was cancelled.
        """
        async for _ in self.watch(job):
            pass
        ended = await self.job(job)
        raise_if_ended_badly(ended)
        return ended

    async def reports(self, job: JobId) -> list[TrainingReport]:
        """The decrypted reports of the exchanges so far.

        Raises:
            ReportUnreadable: a report is not sealed to us as the report that it is stored as.
        """
        record = self.store.job(_id(job))
        reports = []
        for info in await self.gateway.objects(record.spec.job):
            prefix, _, number = info.name.partition("-")
            if prefix == "report" and number.isdigit():
                reports.append(await self._report(record, info, int(number)))
        return sorted(reports, key=lambda report: report.exchange)

    async def _report(self, record: JobRecord, info: ObjectInfo, exchange: int) -> TrainingReport:
        sealed = await self._object(record.spec, info.name)
        try:
            return open_report(sealed, exchange, job=record.spec.job, owner_key=record.private_key)
        except OpenFailed as error:
            raise ReportUnreadable(f"{info.name} is not a report of this job for us") from error

    async def outcome(self, job: JobId) -> Outcome:
        """How the job really ended; only its owner can read it.

        Raises:
            ReportUnreadable: the stored outcome is not sealed to us for this job.
        """
        record = self.store.job(_id(job))
        sealed = await self._object(record.spec, OUTCOME_OBJECT)
        try:
            return open_outcome(sealed, job=record.spec.job, owner_key=record.private_key)
        except OpenFailed as error:
            raise ReportUnreadable("the stored outcome is not this job's, for us") from error

    async def _object(self, spec: JobSpec, name: str) -> bytes:
        return await self.gateway.fetch(f"/v1/jobs/{spec.job}/objects/{name}", limit=64 * 1024)

    async def predictor(self, job: JobId) -> PredictorSession:
        """Start the job's predictor if need be and verify it: the session's queries go to its key.

        Raises:
            EvidenceRejected, PolicyMissing: as `verify_job`.
        """
        record = self.store.job(_id(job))
        await self.gateway.start_predictor(record.spec.job)
        verified = await self.verify_job(record.spec.job, Role.PREDICTOR)
        return PredictorSession(self.gateway, record, verified)

    @asynccontextmanager
    async def direct_predictor(self, job: JobId, address: str) -> AsyncIterator[PredictorSession]:
        """Speak to a predictor at `address` (host:port) itself, over RA-TLS: the gateway carries nothing.

        Raises:
            PolicyMissing: this client was given no policy.
            GatewayError: nobody answers there, or the handshake's evidence did not hold: nothing was sent.
            EvidenceRejected: evidence over a fresh nonce did not.
        """
        if self.policy is None:
            raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
        record = self.store.job(_id(job))
        connector = attested_connector(self.policy, Role.PREDICTOR, record.spec.job)
        async with GatewaySession(f"https://{address}", None, connector) as session:
            verified = await self._verified(session, record.spec.job, Role.PREDICTOR)
            yield PredictorSession(session, record, verified)

    async def predict(self, job: JobId, x: NDArray[Any], advance: Advance | None = None) -> Predictions:
        """Predict rows `x` [n, *input_shape]: verify the predictor, ask sealed, open its answers.

        Raises:
            EvidenceRejected, PolicyMissing: as `verify_job`.
            RowsInvalid: the rows are not of the job's input shape and type.
            AnswerRefused: the predictor gave none.
        """
        session = await self.predictor(job)
        return await session.predict(np.asarray(x), advance)

    async def cancel(self, job: JobId) -> None:
        """Cancel a job."""
        await self.gateway.post(f"/v1/jobs/{_id(job)}/cancel")

    async def observations(self, job: JobId) -> list[Observation]:
        """All that the operator's side stored and relayed for the job: names and sizes of ciphertext."""
        return await self.gateway.observations(_id(job))


def _id(job: JobId) -> str:
    return job.spec.job if isinstance(job, Job) else job
