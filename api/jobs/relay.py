"""Carries what owners and enclaves say to each other; reads none of it, and notes that it went by."""

import logging

from chiron.api.errors import (
    BodyTooLarge,
    EnclaveGone,
    EnclaveNotRunning,
    EnclaveRefused,
    JobEnded,
    ObjectRefused,
)
from chiron.api.jobs.fleet import Fleet, LaunchedEnclave
from chiron.api.jobs.objects import Observations
from chiron.api.jobs.specification import answer_limit, query_limit
from chiron.api.monitoring import Metrics
from chiron.api.settings import Settings
from chiron.wire.attestation import Evidence, Role
from chiron.wire.enclave_api import EvidenceRequest, MailKind, MailReply, SealedMessage
from chiron.wire.grants import UpgradeMail
from chiron.wire.jobs import TERMINAL_STATES, Job
from chiron.wire.objects import settlement

_LOG = logging.getLogger(__name__)
GIVER = 1
"""Index of the predictor that gives its model to newer code; the newer one is the job's, which has 0."""


class Relay:
    """Between the public API and the mailboxes."""

    def __init__(
        self, settings: Settings, fleet: Fleet, observations: Observations, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._observations = observations
        self._metrics = metrics

    async def evidence(
        self,
        job: Job,
        role: Role,
        request: EvidenceRequest,
        *,
        giver: bool = False,
        owners: bool = True,
    ) -> Evidence:
        """Fresh evidence of the job's enclave in this role; with `giver`, of the one that gives its model.

        Whatever is not the job's `owners` waits for what is.

        Raises:
            EnclaveNotRunning, EnclaveGone, EnclaveTimeout, EnclaveRefused, MailboxFull: no evidence.
        """
        enclave = self._enclave(job, role, GIVER if giver else 0)
        await self._note(job.spec.job, "evidence-request", f"to {enclave.name}", len(request.nonce))
        reply = await self._ask(enclave, MailKind.EVIDENCE, evidence=request, owners=owners)
        if reply.evidence is None:
            raise _refused(reply)
        size = len(reply.evidence.model_dump_json())
        await self._note(job.spec.job, "evidence", f"from {enclave.name}", size)
        return reply.evidence

    async def grant(self, job: Job, message: SealedMessage) -> None:
        """Hand the owner's sealed grant to the parameter server.

        Raises:
            BodyTooLarge: larger than a grant is.
            EnclaveRefused: with the enclave's own code; and as `evidence`.
        """
        if len(message.sealed) > self._settings.limits.grant_bytes:
            raise BodyTooLarge(f"a sealed grant has at most {self._settings.limits.grant_bytes} bytes")
        enclave = self._enclave(job, Role.PARAMETER_SERVER)
        await self._note(job.spec.job, "grant", f"to {enclave.name}", len(message.sealed))
        reply = await self._ask(enclave, MailKind.GRANT, message=message)
        if reply.refusal is not None:
            raise _refused(reply)

    async def opening(self, job: Job, message: SealedMessage, *, giver: bool = False) -> SealedMessage:
        """Hand the owner's sealed opening to the predictor, or to the one that gives its model away.

        Raises:
            BodyTooLarge: larger than an opening is.
            EnclaveRefused: with the enclave's own code; and as `evidence`.
        """
        if len(message.sealed) > self._settings.limits.grant_bytes:
            raise BodyTooLarge(f"a sealed opening has at most {self._settings.limits.grant_bytes} bytes")
        enclave = self._enclave(job, Role.PREDICTOR, GIVER if giver else 0)
        await self._note(job.spec.job, "opening", f"to {enclave.name}", len(message.sealed))
        reply = await self._ask(enclave, MailKind.OPEN, message=message)
        if reply.message is None:
            raise _refused(reply)
        if len(reply.message.sealed) > settlement().stored_bytes:
            raise ObjectRefused("the enclave's settlement is larger than settlements are")
        await self._note(job.spec.job, "settlement", f"from {enclave.name}", len(reply.message.sealed))
        return reply.message

    async def query(self, job: Job, message: SealedMessage, *, owners: bool = True) -> SealedMessage:
        """Hand a sealed query to the predictor; its sealed answer comes back.

        Raises:
            BodyTooLarge: larger than the job's queries are.
            EnclaveRefused: with the enclave's own code; and as `evidence`.
        """
        limit = min(query_limit(job.spec), self._settings.limits.message_bytes)
        if len(message.sealed) > limit:
            raise BodyTooLarge(f"a sealed query of this job has at most {limit} bytes")
        enclave = self._enclave(job, Role.PREDICTOR)
        await self._note(job.spec.job, "query", f"to {enclave.name}", len(message.sealed))
        reply = await self._ask(enclave, MailKind.QUERY, message=message, owners=owners)
        if reply.message is None:
            raise _refused(reply)
        if len(reply.message.sealed) > answer_limit(job.spec):
            raise ObjectRefused("the enclave's answer is larger than this job's answers are")
        await self._note(job.spec.job, "answer", f"from {enclave.name}", len(reply.message.sealed))
        return reply.message

    async def give(self, enclave: LaunchedEnclave, mail: UpgradeMail) -> Evidence:
        """Have a predictor seal its model to the enclave of `mail.peer`; its evidence of what it stored.

        Raises:
            EnclaveRefused: with the enclave's own code; and as `evidence`.
        """
        reply = await self._carry(enclave, MailKind.GIVE, mail)
        if reply.evidence is None:
            raise _refused(reply)
        return reply.evidence

    async def take(self, enclave: LaunchedEnclave, mail: UpgradeMail) -> None:
        """Have a waiting predictor take over what the enclave of `mail.peer` stored for it.

        Raises:
            EnclaveRefused: with the enclave's own code; and as `evidence`.
        """
        reply = await self._carry(enclave, MailKind.TAKE, mail)
        if reply.refusal is not None:
            raise _refused(reply)

    async def _carry(self, enclave: LaunchedEnclave, kind: MailKind, mail: UpgradeMail) -> MailReply:
        size = len(mail.model_dump_json())
        await self._note(enclave.spec.job, f"upgrade-{kind}", f"to {enclave.name}", size)
        return await self._ask(enclave, kind, upgrade=mail)

    def _enclave(self, job: Job, role: Role, index: int = 0) -> LaunchedEnclave:
        enclave = self._fleet.find(job.spec.job, role, index)
        if enclave is not None:
            return enclave
        if role is Role.PREDICTOR:
            raise EnclaveNotRunning("the job has no predictor; start one first")
        if job.state in TERMINAL_STATES:
            raise JobEnded(f"the job is over: {job.state}")
        raise EnclaveNotRunning(f"the job's {role} is not running yet")

    async def _ask(
        self,
        enclave: LaunchedEnclave,
        kind: MailKind,
        *,
        evidence: EvidenceRequest | None = None,
        message: SealedMessage | None = None,
        upgrade: UpgradeMail | None = None,
        owners: bool = True,
    ) -> MailReply:
        seconds = self._settings.timing.relay_s
        try:
            # Evidence is no use of it: a keyholder that watches a predictor must not keep it running.
            with enclave.watched() if kind is MailKind.EVIDENCE else enclave.in_use():
                return await enclave.mailbox.ask(
                    kind,
                    seconds=seconds,
                    evidence=evidence,
                    message=message,
                    upgrade=upgrade,
                    owners=owners,
                )
        except EnclaveGone:
            _LOG.info("enclave gone", extra={"job": enclave.spec.job, "enclave": enclave.name})
            raise

    async def _note(self, job: str, kind: str, name: str, size: int) -> None:
        self._metrics.relayed_bytes.labels(kind).inc(size)
        await self._observations.note(job, kind, name, size)


def _refused(reply: MailReply) -> EnclaveRefused:
    return EnclaveRefused(reply.refusal or "answer-unexpected", "the enclave refused the message")
