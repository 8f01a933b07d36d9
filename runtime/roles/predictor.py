"""The predictor role: opens the sealed model of its own measurement and answers sealed queries.

A predictor that is launched to take a model over begins without one (`chiron.runtime.roles.upgrade`). Once it
has it, it is a predictor as any other.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chiron.runtime.attestation.platform import BOOT_NONCE, Platform
from chiron.runtime.channels.direct import serve_directly
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import (
    EnclaveError,
    ModelUnusable,
    QueryError,
    QueryRefused,
    QueryReplayed,
    UpgradeRefused,
)
from chiron.runtime.queries import (
    OWNER,
    Answer,
    AnswerOutcome,
    Query,
    answered,
    open_query,
    refused,
    seal_answer,
)
from chiron.runtime.roles.predictor_state import PredictorKeys, QueryBudget
from chiron.runtime.roles.sealed_model import ModelHeader, open_model
from chiron.runtime.roles.upgrade import give_away, take_over
from chiron.runtime.sealing.sealer import Sealer
from chiron.runtime.training.sessions import ExportedModel
from chiron.wire import objects
from chiron.wire.attestation import Evidence
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Ready, SealedMessage
from chiron.wire.grants import UpgradeMail
from chiron.wire.labels import BUDGET, MODEL
from chiron.wire.launch import LaunchSpec


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Answer queries until the launcher ends us.

    Raises:
        ModelUnusable: the stored model was not sealed to this measurement for this job.
    """
    keys = PredictorKeys(platform, launch.job)
    async with GatewayClient(launch.gateway) as gateway:
        if launch.taking:
            await take_over(launch, platform, gateway, keys)
        predictor = await _opened(launch, platform, gateway, keys)
        async with predictor.at_its_own_door():
            await gateway.ready(Ready())
            async for mail in gateway.mail():
                await gateway.reply(mail, await predictor.answer(mail))


async def _opened(
    launch: LaunchSpec, platform: Platform, gateway: GatewayClient, keys: PredictorKeys
) -> "_Predictor":
    stored = objects.model(launch.spec)
    sealed = await gateway.get_object(stored.name, stored.stored_bytes)
    sealer = Sealer(platform, MODEL)
    header, onnx = await asyncio.to_thread(open_model, launch.spec, sealed, sealer)
    model = await asyncio.to_thread(_loaded, header, onnx, launch)
    budget = await _budget(launch, platform, gateway, header)
    return _Predictor(launch, platform, gateway, keys, header, model, budget)


def _loaded(header: ModelHeader, onnx: bytes, launch: LaunchSpec) -> ExportedModel | None:
    if not header.usable:
        return None
    try:
        return ExportedModel(onnx, launch.spec)
    except Exception:
        # Whether the engine takes this graph, only its owner may learn; and the model can still move on.
        return None


async def _budget(
    launch: LaunchSpec, platform: Platform, gateway: GatewayClient, header: ModelHeader
) -> QueryBudget | None:
    limit = header.prediction.query_budget
    if limit is None:
        return None
    sealer = Sealer(platform, BUDGET)
    budget = QueryBudget(
        limit, launch.job, sealer, gateway, moves=header.moves, answered=header.rows_answered
    )
    await budget.load()
    return budget


@dataclass
class _Predictor:
    launch: LaunchSpec
    platform: Platform
    gateway: GatewayClient
    keys: PredictorKeys
    header: ModelHeader
    model: ExportedModel | None
    budget: QueryBudget | None
    given_away: bool = False
    taken: set[bytes] = field(default_factory=set)
    """Request ids of the owner's queries so far: as long as our key lives, none is taken twice."""

    @asynccontextmanager
    async def at_its_own_door(self) -> AsyncIterator[None]:
        """Answer owners who come directly too, where the launch gave us a port to listen at."""
        if self.launch.listen_port == 0:
            yield
            return
        evidence = self._evidence(BOOT_NONCE)
        async with serve_directly(self.launch, self.answer, self.keys.tls_key, evidence):
            yield

    async def answer(self, mail: Mail) -> MailReply:
        """Reply to the owner's message; a refusal's code depends on public facts only."""
        try:
            if mail.kind is MailKind.EVIDENCE and mail.evidence is not None:
                return MailReply(evidence=self._evidence(mail.evidence.nonce))
            if mail.kind is MailKind.QUERY and mail.message is not None:
                sealed = await self._answer_query(mail.message.sealed)
                return MailReply(message=SealedMessage(sealed=sealed))
            if mail.kind is MailKind.GIVE and mail.upgrade is not None:
                return MailReply(evidence=await self._give_away(mail.upgrade))
        except (QueryRefused, UpgradeRefused, ModelUnusable) as error:
            return MailReply(refusal=error.code)
        return MailReply(refusal="message-unexpected")

    def _evidence(self, nonce: bytes) -> Evidence:
        return self.keys.evidence(nonce, self.header.owner_signing_key)

    async def _give_away(self, mail: UpgradeMail) -> Evidence:
        # Before the count is read: no row is answered that the taker would not know of.
        before, self.given_away = self.given_away, True
        try:
            return await give_away(
                mail,
                launch=self.launch,
                platform=self.platform,
                gateway=self.gateway,
                keys=self.keys,
                header=self.header,
                answered=self.budget.spent if self.budget is not None else self.header.rows_answered,
            )
        except EnclaveError:
            self.given_away = before
            raise

    async def _answer_query(self, sealed: bytes) -> bytes:
        spec = self.launch.spec
        try:
            askers = {OWNER: self.header.owner_signing_key}
            query = await asyncio.to_thread(open_query, spec, sealed, self.keys.key, askers.get)
            self._take(query)
            return seal_answer(spec, query, await self._predict(query))
        except QueryError as error:
            raise QueryRefused(error.code, "not a query that is answered") from error

    def _take(self, query: Query) -> None:
        """Remember the query, before anything is spent or computed for it.

        Raises:
            QueryReplayed: it was taken before.
        """
        if query.request_id in self.taken:
            raise QueryReplayed("this query was taken before")
        self.taken.add(query.request_id)

    async def _predict(self, query: Query) -> Answer:
        if self.given_away:
            raise QueryRefused("model-given-away", "newer code answers for this model")
        spec = self.launch.spec
        if self.model is None:
            return refused(spec, query.request_id, AnswerOutcome.MODEL_UNUSABLE)
        if self.budget is not None and not await self.budget.spend(len(query.x)):
            return refused(spec, query.request_id, AnswerOutcome.BUDGET_EXHAUSTED)
        try:
            predicted = await asyncio.to_thread(self.model.predict, query.x)
        except Exception:
            # Whatever the engine says of these rows, only their owner may learn it.
            return refused(spec, query.request_id, AnswerOutcome.PREDICTION_FAILED)
        return answered(spec, query.request_id, predicted, self.header.prediction)
