"""The data owner's client: every promise that the owner relies on is checked here, none by the gateway."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from chiron.client import uploads
from chiron.client.builders import answered, find_builder, refuse_changed
from chiron.client.configuration import load_configuration
from chiron.client.connecting import Connecting
from chiron.client.datasets import Bundle, Encrypted, EncryptOptions, Source, as_source, encrypt
from chiron.client.errors import GatewayError, GrantImpossible, SpecMismatch
from chiron.client.forgetting import Kind, Tombstone, delete_at_gateway, destroy, tombstone
from chiron.client.gateway_session import GatewaySession
from chiron.client.granting import GRANT_DAYS, make_grant, new_terms, seal_grant, terms_to_send_again
from chiron.client.history import Deed, grant_digest, note
from chiron.client.jobs import check_spec, fetch_outcome, fetch_reports, raise_if_ended_badly, watch
from chiron.client.ledger import Ledgers
from chiron.client.machines import MachineBook, MachineVerbs
from chiron.client.predictions import Advance
from chiron.client.predictors import JobId, OnOpened, PredictorVerbs, job_id
from chiron.client.receipts import write_receipt
from chiron.client.sharing import SharingVerbs
from chiron.client.store import GrantTerms, JobRecord, OwnerStore
from chiron.client.training import Finished, Progressed, Stage, training_stages
from chiron.client.upgrading import move_model
from chiron.client.verifying import NONCE_BYTES, Verifier
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire import codes, paths
from chiron.wire.attestation import AttestationPolicy, Evidence, Role
from chiron.wire.contract import CapabilityGrants
from chiron.wire.enclave_api import Observation
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import Grant, PredictionPolicy, Restarts
from chiron.wire.jobs import TERMINAL_STATES, Job, JobRequest
from chiron.wire.machines import MachineKey
from chiron.wire.public_api import BuilderInfo, Page
from chiron.wire.reports import Outcome, TrainingReport

SHARE_BYTES = 32
NOT_ALLOWED = (
    "this gateway's operator does not let models be kept for a machine that you name: have them allow its "
    "key (`chiron machine list`, docs/operations.md), or leave it out of --machines"
)
Clock = Callable[[], datetime]


class AsyncClient(PredictorVerbs, SharingVerbs, MachineVerbs):
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
        connecting: Connecting | None = None,
    ) -> None:
        """`url` and `api_key` default to the configuration (`chiron.client.configuration`).

        `connecting` is a connection that is being opened to that URL already.

        Raises:
            ConfigurationMissing, ConfigurationInvalid: it does not say them either.
        """
        configuration = load_configuration()
        self.gateway = GatewaySession(
            url or configuration.gateway_url(),
            api_key or configuration.gateway_key(),
            connecting.connector() if connecting else None,
        )
        self.store = store or OwnerStore()
        self._clock = clock
        self._verifier = Verifier(policy, self.gateway, self.store, clock)

    @property
    def policy(self) -> AttestationPolicy | None:
        """The owner's policy: which enclaves are acceptable."""
        return self._verifier.given

    @policy.setter
    def policy(self, policy: AttestationPolicy | None) -> None:
        self._verifier.given = policy

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        await self.gateway.close()

    async def upload_builder(self, component: bytes, manifest: bytes) -> BuilderInfo:
        """Publish a builder, with an operator's key. Its identity is the component's SHA-256.

        Raises:
            GatewayError: as every method here, where the gateway refuses or cannot be reached.
        """
        return await uploads.upload_builder(self.gateway, component, manifest)

    async def builders(self) -> list[BuilderInfo]:
        """The builders that this gateway offers."""
        return await self.gateway.listed(paths.BUILDERS, Page[BuilderInfo])

    async def builder(self, sha256: str) -> BuilderInfo:
        """One builder: what it asks for and how large its models may be."""
        return answered(sha256, await self.gateway.get(paths.BUILDER.of(sha256), BuilderInfo))

    async def find_builder(self, text: str) -> BuilderInfo:
        """The one builder of this name (`publisher/name@version`, or a part that says which) or digest.

        Raises:
            ConfigurationInvalid: none is, or several are; then the choices are named.
            BuilderChanged: the name stood for another digest when it was granted.
        """
        found = find_builder(await self.builders(), text)
        refuse_changed(self.store, found, text)
        return found

    async def encrypt(
        self,
        source: Source | Any,
        directory: Path | str,
        options: EncryptOptions | None = None,
        advance: Advance | None = None,
    ) -> Encrypted:
        """Encrypt a source, or what `open_source` makes of a name or frame, into a new bundle at `directory`.

        The key goes to the owner's store. `advance` is called with the examples done and those to do.

        Raises:
            SourceInvalid: an example cannot be used, or `directory` holds something already.
            SourceDoubtful: it can be meant in more than one way (`SourceOptions` settle it).
        """
        opened = as_source(source)
        return await asyncio.to_thread(encrypt, opened, Path(directory), self.store, options, advance)

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
            SpecMismatch: the gateway made another job of it, or answered with one that is known here.
        """
        dataset = self.store.dataset(request.dataset_id)
        job = await self.gateway.create_job(request)
        check_spec(job.spec, request, dataset.manifest)
        if self.store.knows_job(job.spec.job) or tombstone(self.store, Kind.JOB, job.spec.job):
            # Its record would be overwritten, and with it the only key that opens what that job made.
            raise SpecMismatch("the gateway answered with an earlier job of yours, not with a new one")
        owner_key = PrivateKey.generate().private_bytes
        made = JobRecord(
            spec=job.spec,
            owner_key=owner_key,
            share=secrets.token_bytes(SHARE_BYTES),
            class_names=dataset.class_names,
            settled=dataset.settled,
        )
        # The ledger first: there is no job without one.
        Ledgers(self.store).begin(job.spec.job)
        self.store.save_job(made)
        note(
            self.store, job.spec.job, Deed.CREATED, spec=job.spec.digest(), dataset=dataset.manifest.digest()
        )
        return job

    async def job(self, job: JobId) -> Job:
        """The job as the gateway tells it.

        Raises:
            SpecMismatch: its spec is not the one that it had when it was created on this machine.
        """
        told = await self.gateway.job(job_id(job))
        if self.store.knows_job(told.spec.job) and self.store.job(told.spec.job).spec != told.spec:
            raise SpecMismatch("the gateway tells another spec of this job than when it was created")
        return told

    async def jobs(self) -> list[Job]:
        """All jobs of this API key's tenant."""
        return await self.gateway.listed(paths.JOBS, Page[Job])

    async def verify_job(self, job: JobId, role: Role = Role.PARAMETER_SERVER) -> VerifiedEvidence:
        """Fetch evidence over a fresh random nonce and verify it; its `steps` say what was checked.

        A predictor must show that it serves our model, where the job was created on this machine.

        Raises:
            PolicyMissing: this client was given no policy.
            EvidenceRejected: a step did not hold.
        """
        verified = await self._verifier.verified(self.gateway, job_id(job), role)
        if self.store.knows_job(verified.claims.job):
            note(
                self.store,
                verified.claims.job,
                Deed.VERIFIED,
                role=role.value,
                measurement=verified.quote.measurement,
                evidence=sha256_hex(verified.claims.report_data()),
            )
        return verified

    async def evidence(self, job: JobId, role: Role = Role.PARAMETER_SERVER) -> Evidence:
        """Fetch evidence over a fresh random nonce, to be read or kept. Nothing of it is verified.

        Raises:
            GatewayError: there is no such enclave, or it cannot be asked.
        """
        return await self.gateway.evidence(job_id(job), role, secrets.token_bytes(NONCE_BYTES))

    async def send_grant(
        self,
        verified: VerifiedEvidence,
        *,
        capabilities: CapabilityGrants | None = None,
        prediction: PredictionPolicy | None = None,
        terms: GrantTerms | None = None,
    ) -> Grant:
        """Entrust the dataset's key to the parameter server of verified evidence, for its job only.

        `terms` say all of it (`chiron.client.granting.new_terms`): restarts, machines and expiry, too.

        Raises:
            PolicyMissing: this client was given no policy.
            EvidenceRejected, GrantImpossible: a machine is not what the policy accepts, or of other code.
            RecordMissing: the job was not created, or the dataset not encrypted, on this machine.
        """
        record = self.store.job(verified.claims.job)
        given = terms or new_terms(self._clock(), capabilities=capabilities, prediction=prediction)
        await self.check_machines(given.machines, verified.quote.measurement)
        # Before it is sent: whatever happens next, the same grant can be sent again.
        policy = await self._verifier.policy()
        self.store.save_job(record.model_copy(update={"policy": policy, "terms": given}))
        try:
            return await self._send(verified, record, given, Deed.GRANTED)
        except GatewayError as error:
            if error.code == codes.GRANT_ALREADY_GIVEN and record.terms is not None:
                self.store.save_job(record)
                Ledgers(self.store).budget(record.spec.job, record.terms.prediction.query_budget)
            raise

    async def send_grant_again(self, verified: VerifiedEvidence) -> Grant:
        """Send a job's grant as it was given to the parameter server of verified evidence.

        One that was started again waits for it (`Job.awaiting_owner`).

        Raises:
            PolicyMissing, RecordMissing: as `send_grant`.
            GrantImpossible: it was never given, has expired, or the job has ended by our own records.
        """
        record = self.store.job(verified.claims.job)
        terms = terms_to_send_again(record, self._clock())
        return await self._send(verified, record, terms, Deed.GRANTED_AGAIN)

    async def _send(
        self, verified: VerifiedEvidence, record: JobRecord, terms: GrantTerms, deed: Deed
    ) -> Grant:
        grant = make_grant(self.store, record, terms, await self._verifier.policy())
        sealed = seal_grant(verified, grant, record.signing_key)
        Ledgers(self.store).budget(grant.job, grant.prediction.query_budget)
        try:
            await self.gateway.relay(paths.JOB_GRANT.of(grant.job), sealed)
        except GatewayError as error:
            if error.code == codes.MACHINE_NOT_ALLOWED:
                raise GrantImpossible(NOT_ALLOWED, code=error.code) from error
            raise
        if deed is Deed.GRANTED:
            write_receipt(self.store, record, grant, verified.claims)
        note(
            self.store,
            grant.job,
            deed,
            grant=grant_digest(grant),
            expires_at=grant.expires_at,
            restarts=grant.restarts.value,
            machines=len(grant.machines),
            measurement=verified.quote.measurement,
            evidence=sha256_hex(verified.claims.report_data()),
        )
        return grant

    def training(
        self,
        request: JobRequest,
        *,
        capabilities: CapabilityGrants | None = None,
        prediction: PredictionPolicy | None = None,
        restarts: Restarts = Restarts.OWNER,
        machines: Sequence[str] = (),
        grant_days: int = GRANT_DAYS,
    ) -> AsyncGenerator[Stage]:
        """Create a job and take it to its end: each stage as it is reached, `Finished` at last.

        The grant follows the first `Verified`. Whoever stops before that (an exception, or closing this
        generator: use `contextlib.aclosing`) grants nothing, and the job is cancelled. After a restart of
        the gateway or the enclave, it is verified again, and sent the same grant again where it waits for
        that. What the job makes opens on `machines`, too: names of some that were added (`add_machine`).

        Raises:
            EvidenceRejected, PolicyMissing: the enclave is not what the policy accepts; nothing was sent.
            RecordMissing: the dataset was not encrypted on this machine.
            SpecMismatch: the gateway made another job of the request.
            JobEnded: it failed or was cancelled.
        """
        terms = new_terms(
            self._clock(),
            capabilities=capabilities,
            prediction=prediction,
            restarts=restarts,
            machines=MachineBook(self.store).keys(machines),
            days=grant_days,
        )
        return training_stages(self, request, terms)

    async def train(
        self,
        request: JobRequest,
        *,
        capabilities: CapabilityGrants | None = None,
        prediction: PredictionPolicy | None = None,
        restarts: Restarts = Restarts.OWNER,
        machines: Sequence[str] = (),
        grant_days: int = GRANT_DAYS,
        advance: Advance | None = None,
    ) -> Finished:
        """Create a job, verify its enclave, send the grant, and wait for the outcome.

        `advance` is called with the exchanges done and those to do. To look at the evidence before the
        grant is sent, use `training`.

        Raises:
            EvidenceRejected, PolicyMissing: the enclave is not what the policy accepts; nothing was sent.
            RecordMissing: the dataset was not encrypted on this machine.
            SpecMismatch: the gateway made another job of the request.
            JobEnded: it failed or was cancelled.
        """
        stages = self.training(
            request,
            capabilities=capabilities,
            prediction=prediction,
            restarts=restarts,
            machines=machines,
            grant_days=grant_days,
        )
        async with aclosing(stages):
            async for stage in stages:
                if isinstance(stage, Progressed) and advance:
                    advance(stage.job.exchanges_done, stage.job.spec.exchange.exchanges)
                if isinstance(stage, Finished):
                    return stage
        raise AssertionError("training ends with Finished, or with an error")

    async def watch(self, job: JobId) -> AsyncGenerator[Job]:
        """The job each time its public progress changes, until it has ended."""
        async with aclosing(watch(self.gateway, job_id(job))) as states:
            async for now in states:
                if now.state in TERMINAL_STATES:
                    self.store.note_ended(job_id(job))
                yield now

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
        return await fetch_reports(self.gateway, self.store.job(job_id(job)))

    async def outcome(self, job: JobId) -> Outcome:
        """The job's outcome: how it really ended. Only its owner can read it.

        Raises:
            ReportUnreadable: the stored outcome is not sealed to us for this job.
        """
        outcome = await fetch_outcome(self.gateway, self.store.job(job_id(job)))
        self.store.note_ended(job_id(job))
        return outcome

    async def upgrade(
        self, job: JobId, on_opened: OnOpened | None = None, *, machines: Sequence[str] = ()
    ) -> VerifiedEvidence:
        """Move the job's model to the newer enclave code that this client's policy accepts.

        `on_opened` is called with each opening on the way: the older predictor's, and the newer one's.
        Afterwards the model opens on `machines`, too: names of some that were added from the newer code.

        Raises:
            GrantImpossible: a machine is of other code; nothing was ordered.
            UpgradeImpossible: nothing says what it is sealed to, or the gateway does not have that code.
            EvidenceRejected, PolicyMissing: the newer enclave is not what the policy accepts.
        """
        keys = MachineBook(self.store).keys(machines)

        async def kept_for(measurement: str) -> tuple[MachineKey, ...]:
            await self.check_machines(keys, measurement)
            return keys

        verifier, clock = self._verifier, self._clock
        return await move_model(self.gateway, verifier, self.store, clock, job_id(job), on_opened, kept_for)

    async def cancel(self, job: JobId) -> None:
        """Cancel a job."""
        self.store.note_ended(job_id(job))
        await self.gateway.cancel(job_id(job))
        if self.store.knows_job(job_id(job)):
            note(self.store, job_id(job), Deed.CANCELLED)

    async def forget_job(self, job: JobId) -> Tombstone:
        """Destroy the keys of a job, so that nobody opens what it made; then have the gateway delete it.

        Raises:
            RecordMissing: this store knows no such job.
            GatewayError: the keys are destroyed, and the gateway has not deleted yet: repeat.
        """
        return await delete_at_gateway(self.gateway, self.store, destroy(self.store, Kind.JOB, job_id(job)))

    async def forget_dataset(self, dataset_id: str) -> Tombstone:
        """Destroy a dataset's key, so that nobody decrypts it; then have the gateway delete the ciphertext.

        Raises:
            RecordMissing, GatewayError: as `forget_job`.
        """
        stone = destroy(self.store, Kind.DATASET, dataset_id)
        return await delete_at_gateway(self.gateway, self.store, stone)

    async def observations(self, job: JobId) -> list[Observation]:
        """All that the operator's side stored and relayed for the job: names and sizes of ciphertext."""
        return await self.gateway.observations(job_id(job))
