"""The predictor role: opens the sealed model of its own measurement and answers sealed queries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives.asymmetric import ec

from runtime.attestation.evidence import BOOT_NONCE, attest
from runtime.attestation.platform import Platform
from runtime.channels.direct import serve_directly
from runtime.channels.gateway import GatewayClient
from runtime.channels.job_ca import public_key_der
from runtime.errors import QueryRefused
from runtime.prediction import Model
from runtime.queries import Answer, AnswerOutcome, Query, answered, open_query, refused, seal_answer
from runtime.queries.errors import QueryError
from runtime.roles.query_budget import QueryBudget
from runtime.roles.sealed_model import MODEL_OBJECT, ModelHeader, open_model, sealed_bytes
from runtime.sealing.hpke import PrivateKey
from runtime.sealing.labels import BUDGET, MODEL
from runtime.sealing.sealer import Sealer
from runtime.wire.attestation import Claims, Evidence, Role
from runtime.wire.enclave_api import Mail, MailKind, MailReply, Ready, SealedMessage
from runtime.wire.encoding import sha256_hex
from runtime.wire.launch import LaunchSpec


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Answer queries until the launcher ends us.

    Raises:
        ModelUnusable: the stored model was not sealed to this measurement for this job.
    """
    async with GatewayClient(launch.gateway) as gateway:
        sealed = await gateway.get_object(MODEL_OBJECT, sealed_bytes(launch.spec))
        sealer = Sealer(platform, MODEL)
        header, onnx = await asyncio.to_thread(open_model, launch.spec, sealed, sealer)
        model = await asyncio.to_thread(Model, onnx, launch.spec) if header.usable else None
        budget = await _budget(launch, platform, gateway, header)
        predictor = _Predictor(launch, platform, header, model, budget)
        async with predictor.at_its_own_door():
            await gateway.ready(Ready())
            async for mail in gateway.mail():
                await gateway.reply(mail, await predictor.answer(mail))


async def _budget(
    launch: LaunchSpec, platform: Platform, gateway: GatewayClient, header: ModelHeader
) -> QueryBudget | None:
    limit = header.prediction.query_budget
    if limit is None:
        return None
    budget = QueryBudget(limit, launch.job, Sealer(platform, BUDGET), gateway)
    await budget.load()
    return budget


class _Predictor:
    def __init__(
        self,
        launch: LaunchSpec,
        platform: Platform,
        header: ModelHeader,
        model: Model | None,
        budget: QueryBudget | None,
    ) -> None:
        self._launch = launch
        self._platform = platform
        self._policy = header.prediction
        self._owner = header.owner_signing_key
        self._model = model
        self._budget = budget
        self._key = PrivateKey.generate()
        self._tls_key = ec.generate_private_key(ec.SECP256R1())

    @asynccontextmanager
    async def at_its_own_door(self) -> AsyncIterator[None]:
        """Answer owners who come directly too, where the launch gave us a port to listen at."""
        if self._launch.listen_port == 0:
            yield
            return
        evidence = self._evidence(BOOT_NONCE)
        runner = await serve_directly(self._launch, self.answer, self._tls_key, evidence)
        try:
            yield
        finally:
            await runner.cleanup()

    async def answer(self, mail: Mail) -> MailReply:
        """Reply to the owner's message; a refusal's code depends on public facts only."""
        try:
            if mail.kind is MailKind.EVIDENCE and mail.evidence is not None:
                return MailReply(evidence=self._evidence(mail.evidence.nonce))
            if mail.kind is MailKind.QUERY and mail.message is not None:
                sealed = await self._answer_query(mail.message.sealed)
                return MailReply(message=SealedMessage(sealed=sealed))
        except QueryRefused as error:
            return MailReply(refusal=error.code)
        return MailReply(refusal="message-unexpected")

    def _evidence(self, nonce: bytes) -> Evidence:
        claims = Claims(
            role=Role.PREDICTOR,
            job=self._launch.job,
            hpke_public_key=self._key.public_bytes,
            tls_public_key_sha256=sha256_hex(public_key_der(self._tls_key.public_key())),
            owner_key_sha256=sha256_hex(self._owner),
            nonce=nonce,
        )
        return attest(self._platform, claims)

    async def _answer_query(self, sealed: bytes) -> bytes:
        spec = self._launch.spec
        try:
            query = await asyncio.to_thread(open_query, spec, sealed, self._key)
            return seal_answer(spec, query, await self._predict(query))
        except QueryError as error:
            raise QueryRefused(error.code, "the query cannot be read, or its key not answered to") from error

    async def _predict(self, query: Query) -> Answer:
        spec = self._launch.spec
        if self._model is None:
            return refused(spec, query.request_id, AnswerOutcome.MODEL_UNUSABLE)
        if self._budget is not None and not await self._budget.spend(len(query.x)):
            return refused(spec, query.request_id, AnswerOutcome.BUDGET_EXHAUSTED)
        try:
            predicted = await asyncio.to_thread(self._model.predict, query.x)
        except Exception:
            # Whatever the engine says of these rows, only their owner may learn it.
            return refused(spec, query.request_id, AnswerOutcome.PREDICTION_FAILED)
        return answered(spec, query.request_id, predicted, self._policy)
