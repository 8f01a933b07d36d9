"""The client's verbs that ask a job's model: start its predictor, verify it, open it, and ask it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from chiron.client.attested import AttestedBook
from chiron.client.datasets.rows import inputs_of
from chiron.client.errors import AnswerRefused, NotDirect
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, note
from chiron.client.ledger import Ledgers
from chiron.client.opening import Opened, Opener
from chiron.client.predictions import Advance, Inquirer, OnAnswer, Predictions, PredictorSession
from chiron.client.ra_tls import attested_connector
from chiron.client.store import JobRecord, OwnerStore
from chiron.client.verifying import Verifier
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.wire.attestation import Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.jobs import Job
from chiron.wire.opening import SignedStatement
from chiron.wire.public_api import PredictorState

OnOpened = Callable[[Opened], None]
"""Called when a predictor was opened."""
JobId = str | Job


class PredictorVerbs:
    """What `AsyncClient` does with predictors."""

    gateway: GatewaySession
    store: OwnerStore
    _clock: Callable[[], datetime]
    _verifier: Verifier

    async def predictor(self, job: JobId, on_opened: OnOpened | None = None) -> PredictorSession:
        """Start the job's predictor if need be, verify it, and open it if it is locked.

        The session's queries go to the key in its evidence. `on_opened` is called if it was opened.

        Raises:
            EvidenceRejected, PolicyMissing: as `verify_job`.
        """
        record = self.store.job(job_id(job))
        await self.gateway.start_predictor(record.spec.job, await self._verifier.image())
        return await self._session(self.gateway, record, on_opened)

    async def open_if_running(
        self, job: JobId, on_opened: OnOpened | None = None, before: Callable[[], None] = lambda: None
    ) -> VerifiedEvidence | None:
        """Verify the job's predictor, and open it if it is locked or its end is near; never start one.

        `before` is called before each opening, and may raise: then nothing is sent. None where none is ready.

        Raises:
            EvidenceRejected, PolicyMissing: as `verify_job`.
        """
        record = self.store.job(job_id(job))
        if (await self.gateway.predictor(record.spec.job)).state is not PredictorState.READY:
            return None
        opener = Opener(self.gateway, self._verifier, self.store, self._clock, on_opened, before)
        return await opener.opened(self.gateway, record)

    async def predictor_address(self, job: JobId) -> str:
        """Start the job's predictor if need be; host:port at which it is reached without the gateway.

        Raises:
            NotDirect: the operator gives predictors no address of their own.
        """
        # Verified by the gateway's way first: who answers is ready, and the address is of no other.
        await self.predictor(job)
        address = (await self.gateway.predictor(job_id(job))).address
        if address is None:
            raise NotDirect("this operator's predictors are reached through the gateway only")
        return address

    @asynccontextmanager
    async def direct_predictor(
        self, job: JobId, address: str | None = None, on_opened: OnOpened | None = None
    ) -> AsyncIterator[PredictorSession]:
        """Speak to the predictor itself, over RA-TLS: the gateway carries nothing.

        `address` is its host:port; without one, the gateway is asked (`predictor_address`), and not trusted.

        Raises:
            PolicyMissing: this client was given no policy.
            GatewayError: nobody answers there, or the handshake's evidence did not hold: nothing was sent.
            EvidenceRejected: evidence over a fresh nonce did not.
        """
        policy = await self._verifier.policy()
        record = self.store.job(job_id(job))
        place = address or await self.predictor_address(job)
        connector = attested_connector(policy, Role.PREDICTOR, record.spec.job)
        async with GatewaySession(f"https://{place}", None, connector) as session:
            yield await self._session(session, record, on_opened)

    async def predict(
        self,
        job: JobId,
        rows: Any,
        advance: Advance | None = None,
        *,
        direct: bool = False,
        on_opened: OnOpened | None = None,
        on_answer: OnAnswer | None = None,
    ) -> Predictions:
        """Predict rows: verify the predictor, open it, ask sealed, open its answers.

        Rows are a file's path, or a frame of pandas, polars or pyarrow, whose columns are found by name and
        encoded as the training data's were; or an array `[n, *input_shape]` of numbers as they were encoded
        (NaN becomes what fills the column). With `direct`, at the predictor's own address. `on_answer` is as
        in `PredictorSession.predict`.

        Raises:
            EvidenceRejected, PolicyMissing: as `verify_job`.
            SourceInvalid: a file or frame does not fit the training data.
            RowsInvalid: the rows are not of the job's input shape and type, or not finite.
            AnswerRefused: the predictor gave none, or the grant's query budget holds no more.
            ScoresNotFinite: the model has no answer for some rows.
        """
        record = self.store.job(job_id(job))
        x = inputs_of(rows, record.spec.dataset, record.settled)
        if direct:
            async with self.direct_predictor(job, on_opened=on_opened) as session:
                return await session.predict(x, advance, on_answer)
        return await (await self.predictor(job, on_opened)).predict(x, advance, on_answer)

    async def _session(
        self, session: GatewaySession, record: JobRecord, on_opened: OnOpened | None
    ) -> PredictorSession:
        opener = Opener(self.gateway, self._verifier, self.store, self._clock, on_opened)
        verified = await opener.opened(session, record)
        inquirer = Inquirer(record.spec, record.signing_key, class_names=record.class_names)
        book = AttestedBook(self.store)
        return PredictorSession(
            session,
            inquirer,
            verified,
            self._writing_ahead(record, verified),
            attested=book.last(record.spec.job, sha256_hex(verified.claims.hpke_public_key or b"")),
            keep=lambda signed: self._keep(signed, verified),
        )

    def _keep(self, signed: SignedStatement, verified: VerifiedEvidence) -> None:
        """Keep what a predictor attests. One that goes by an opening we forgot is opened anew next."""
        said = signed.statement
        AttestedBook(self.store).keep(signed, verified.claims.tls_public_key_sha256 or "")
        with Ledgers(self.store).changing(said.job) as change:
            change.ledger = change.ledger.goes_by(said.opening, said.predictor_key_sha256)

    def _writing_ahead(self, record: JobRecord, verified: VerifiedEvidence) -> Callable[[int], None]:
        """Take rows from the ledger before they are asked for."""
        key, job = sha256_hex(verified.claims.hpke_public_key or b""), record.spec.job

        def take(rows: int) -> None:
            with Ledgers(self.store).changing(job) as change:
                left = change.ledger.left
                if left is not None and rows > left:
                    raise AnswerRefused(
                        f"the grant's query budget holds {left} more rows, not {rows}",
                        code="budget-exhausted",
                    )
                change.ledger = change.ledger.asked_for(rows, key)
            note(self.store, job, Deed.PREDICTED, rows=rows, predictor_key=key)

        return take


def job_id(job: JobId) -> str:
    """The id of a job that is named by it, or given."""
    return job.spec.job if isinstance(job, Job) else job
