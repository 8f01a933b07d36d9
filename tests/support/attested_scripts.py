"""Scripts that an owner accepts: they play their roles over the real gateway, and can misbehave.

Evidence, grants, datasets, reports, queries and answers are the real ones; only the confinement and the
training are not: the "model" is the mean image of each class, learnt from the decrypted dataset.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.software_tee.tee import SoftwareTee
from chiron.runtime.attestation.platform import attest
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.errors import GrantRefused
from chiron.runtime.openings import (
    check_owner,
    open_opening,
    seal_settlement,
    sign_settlement,
    sign_statement,
)
from chiron.runtime.queries import OWNER, AnswerOutcome, Query, answered, open_query, refused, seal_answer
from chiron.runtime.reports import seal_outcome, seal_report
from chiron.runtime.roles.askers import Askers
from chiron.runtime.roles.grant import open_grant
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire import objects
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Progress, Ready, SealedMessage
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobSpec, JobState
from chiron.wire.p256 import generate_key, public_key_der
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport
from tests.support.scripts import Launched, Script
from tests.support.tee import MEASUREMENT, DirectPlatform

SERVER_CLAIMS = {"tls_ca_sha256": "0" * 64}


@dataclass
class Faults:
    """What a hostile operator, or a broken enclave, does."""

    claims: Callable[[Claims], Claims] = lambda claims: claims
    """Changes the claims before they are quoted."""
    evidence: Callable[[Evidence], Evidence] = lambda evidence: evidence
    """Changes the evidence after it was quoted."""
    measurement: bytes = MEASUREMENT
    answer: Callable[[bytes], bytes] = lambda sealed: sealed
    report: Callable[[bytes], bytes] = lambda sealed: sealed
    outcome: Outcome = field(default_factory=lambda: Outcome(status=OutcomeStatus.TRAINED))
    public_end: JobState = JobState.SUCCEEDED


class AttestedScripts:
    """The roles of jobs; `means` and `grants` are what the enclaves learnt, by job."""

    def __init__(self, tee: SoftwareTee, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.grants: dict[str, Grant] = {}
        self.means: dict[str, NDArray[np.float64]] = {}
        self.scripts: dict[Role, Script] = {
            Role.PARAMETER_SERVER: self._parameter_server,
            Role.TRAINER: self._trainer,
            Role.PREDICTOR: self._predictor,
        }
        self.rows_answered = 0
        self._tee = tee
        self._granted: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._learnt: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._ended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def _evidence(self, order: LaunchOrder, key: PrivateKey, nonce: bytes, own: dict[str, str]) -> Evidence:
        claims = self.faults.claims(
            Claims.model_validate(
                {"role": order.role, "job": order.job, "hpke_public_key": key.public_bytes, "nonce": nonce}
                | own
            )
        )
        platform = DirectPlatform(self._tee, self.faults.measurement)
        return self.faults.evidence(attest(platform, claims))

    async def _parameter_server(self, me: Launched) -> int:
        order, gateway, key = me.order, me.gateway, PrivateKey.generate()
        await gateway.progress(Progress(state=JobState.AWAITING_GRANT))
        async for mail in gateway.mail():
            await gateway.reply(mail, self._answer_owner(order, key, mail))
            if order.job in self.grants:
                self._granted[order.job].set()
                break
        await self._run_schedule(gateway, order.spec)
        self._ended[order.job].set()
        return 0

    def _answer_owner(self, order: LaunchOrder, key: PrivateKey, mail: Mail) -> MailReply:
        if mail.kind is MailKind.EVIDENCE and mail.evidence:
            return MailReply(evidence=self._evidence(order, key, mail.evidence.nonce, SERVER_CLAIMS))
        assert mail.message is not None
        try:
            self.grants[order.job] = open_grant(mail.message.sealed, key, order.spec, datetime.now(UTC))
        except GrantRefused as error:
            return MailReply(refusal=error.code)
        return MailReply()

    async def _run_schedule(self, gateway: GatewayClient, spec: JobSpec) -> None:
        await gateway.progress(Progress(state=JobState.BUILDING))
        await self._learnt[spec.job].wait()
        for exchange in range(spec.exchange.exchanges):
            await gateway.progress(Progress(state=JobState.TRAINING, exchanges_done=exchange + 1))
        await gateway.progress(Progress(state=self.faults.public_end, exchanges_done=spec.exchange.exchanges))

    async def _tell_owner(self, gateway: GatewayClient, spec: JobSpec, owner: bytes) -> None:
        for exchange in range(spec.exchange.exchanges):
            report = TrainingReport(exchange=exchange, train_loss=1 / (exchange + 1), validation_accuracy=0.9)
            sealed = self.faults.report(seal_report(report, job=spec.job, owner_public_key=owner))
            await gateway.put_object(objects.report(exchange).name, sealed)
        sealed = seal_outcome(self.faults.outcome, job=spec.job, owner_public_key=owner)
        await gateway.put_object(objects.outcome().name, sealed)

    async def _learn(self, gateway: GatewayClient, spec: JobSpec, key: bytes) -> NDArray[np.float64]:
        manifest = spec.dataset

        async def fetch(number: int) -> bytes:
            return await gateway.chunk(manifest.dataset_id, number, manifest.chunk_ciphertext_bytes)

        sums = np.zeros((manifest.classes, *manifest.input_shape))
        counts = np.zeros(manifest.classes)
        async for examples in EncryptedDataset(manifest, key, fetch).read(range(manifest.chunks)):
            np.add.at(sums, examples.y, examples.x)
            np.add.at(counts, examples.y, 1)
        return sums / counts.reshape(-1, *[1] * len(manifest.input_shape))

    async def _trainer(self, me: Launched) -> int:
        job = me.order.job
        if me.order.index == 0:
            await self._granted[job].wait()
            grant = self.grants[job]
            self.means[job] = await self._learn(me.gateway, me.order.spec, grant.dataset_key)
            await self._tell_owner(me.gateway, me.order.spec, grant.owner_public_key)
            self._learnt[job].set()
        await self._ended[job].wait()
        return 0

    async def _predictor(self, me: Launched) -> int:
        order, gateway, mine = me.order, me.gateway, _Predictor()
        await gateway.ready(Ready())
        async for mail in gateway.mail():
            if mail.evidence:
                evidence = self._evidence(order, mine.key, mail.evidence.nonce, mine.claimed())
                await gateway.reply(mail, MailReply(evidence=evidence))
            elif mail.message:
                sealed = mail.message.sealed
                if mail.kind is MailKind.OPEN:
                    answer = mine.open(sealed, self.grants[order.job])
                else:
                    answer = self.faults.answer(self._answer_query(order.spec, mine, sealed))
                await gateway.reply(mail, MailReply(message=SealedMessage(sealed=answer)))
        return 0

    def _answer_query(self, spec: JobSpec, mine: "_Predictor", sealed: bytes) -> bytes:
        assert mine.askers is not None
        owner = mine.askers.owner
        query = open_query(spec, sealed, mine.key, {OWNER: owner.key}.get)
        statement = mine.askers.spend(owner, len(query.x), now=0)
        if isinstance(statement, AnswerOutcome):
            return seal_answer(spec, query, refused(spec, query.request_id, statement))
        self.rows_answered += len(query.x)
        signed = sign_statement(statement, mine.tls_key)
        scores = self._scores(spec, query)
        return seal_answer(spec, query, answered(spec, query.request_id, scores, owner.policy, signed))

    def _scores(self, spec: JobSpec, query: Query) -> NDArray[Any]:
        differences = query.x[:, np.newaxis] - self.means[spec.job][np.newaxis]
        axes = tuple(range(2, differences.ndim))
        scores: NDArray[np.float32] = np.exp(-(differences**2).mean(axis=axes)).astype(np.float32)
        return scores


class _Predictor:
    """One start of a predictor: locked until its owner opens it."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate()
        self.tls_key = generate_key()
        self.askers: Askers | None = None

    def claimed(self) -> dict[str, str]:
        """What its claims have besides those of every role."""
        own = {"tls_public_key_sha256": sha256_hex(public_key_der(self.tls_key.public_key()))}
        return own | ({"owner_key_sha256": sha256_hex(self.askers.owner.key)} if self.askers else {})

    def open(self, sealed: bytes, grant: Grant) -> bytes:
        """Take an opening of the grant's owner."""
        signed = open_opening(sealed, self.key, grant.job)
        check_owner(signed, grant.owner_signing_key)
        assert signed.opening.share == grant.share
        before = self.askers.settlement() if self.askers else None
        previous = before.opening if before else 0
        self.askers = Askers(signed.opening, grant.owner_signing_key, grant.prediction, previous)
        settled = sign_settlement(before, self.tls_key) if before else None
        return seal_settlement(settled, grant.share, grant.job, answers=signed.opening)
