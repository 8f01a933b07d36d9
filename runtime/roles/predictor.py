"""The predictor role: answers sealed queries with a model that its owner has opened.

It starts locked (`chiron.runtime.roles.model_lock`), and answers for evidence, which names no owner, and to
openings. One that is launched to take a model over begins without any (`chiron.runtime.roles.upgrade`); once
it has it, it is a locked predictor as any other. At its end it leaves a settlement in the operator's storage.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chiron.runtime.attestation.platform import BOOT_NONCE, Platform
from chiron.runtime.channels.direct import serve_directly
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.in_use import telling_use
from chiron.runtime.engine.supply import Engines
from chiron.runtime.errors import (
    EnclaveError,
    ModelUnusable,
    OpeningRefused,
    PredictorLocked,
    QueryError,
    QueryRefused,
    QueryUnauthorised,
    UpgradeRefused,
)
from chiron.runtime.openings import sign_statement
from chiron.runtime.pacing import MOST_LATE_SLOTS, Slots, answer_s, opening_s
from chiron.runtime.queries import Answer, AnswerOutcome, Query, answered, open_query, refused, seal_answer
from chiron.runtime.roles.model_lock import ModelLock
from chiron.runtime.roles.predictor_keys import PredictorKeys
from chiron.runtime.roles.stored_model import StoredModel
from chiron.runtime.roles.taken_queries import TakenQueries
from chiron.runtime.roles.upgrade import give_away, take_over
from chiron.wire import objects
from chiron.wire.attestation import Evidence
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Ready, SealedMessage
from chiron.wire.grants import UpgradeMail
from chiron.wire.launch import LaunchSpec

_LOG = logging.getLogger(__name__)
SETTLING_S = 4
"""How long storing the settlement may take: the launcher ends us soon after it asked us to end."""
ANSWERED_AT_ONCE = 4
"""Queries that are opened and answered at a time; the others wait."""
REFUSALS = (OpeningRefused, PredictorLocked, QueryRefused, UpgradeRefused, ModelUnusable)


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Answer queries until the launcher ends us."""
    engines = Engines()
    # It takes a while to start: meanwhile the owner verifies us.
    engines.start_ahead()
    try:
        await _run(launch, platform, engines)
    finally:
        engines.end()


async def _run(launch: LaunchSpec, platform: Platform, engines: Engines) -> None:
    keys = PredictorKeys(platform, launch.job)
    async with GatewayClient(launch.gateway) as gateway:
        if launch.taking:
            await take_over(launch, platform, gateway, keys)
        stored = objects.model(launch.spec)
        read = partial(gateway.get_object, stored.name, stored.stored_bytes)
        stored_model = StoredModel(await read(), read)
        lock = ModelLock(launch.spec, stored_model, platform, keys, engines=engines)
        predictor = _Predictor(launch, gateway, platform, keys, lock)
        async with predictor.at_its_own_door():
            try:
                await gateway.ready(Ready())
                async for mail in gateway.mail():
                    await gateway.reply(mail, await predictor.answer(mail))
            finally:
                await predictor.settle()


@dataclass
class _Predictor:
    launch: LaunchSpec
    gateway: GatewayClient
    platform: Platform
    keys: PredictorKeys
    lock: ModelLock
    taken: TakenQueries = field(default_factory=TakenQueries)
    """The queries so far: as long as our key lives, none is taken twice."""
    behind: set[asyncio.Future[Any]] = field(default_factory=set)
    """What the engine was not done with at the end of its slot."""
    answering: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ANSWERED_AT_ONCE))

    @asynccontextmanager
    async def at_its_own_door(self) -> AsyncIterator[None]:
        """Answer owners who come directly too, where the launch gave us a port to listen at."""
        if self.launch.listen_port == 0:
            yield
            return
        answer = telling_use(self.gateway, self.answer)
        # It names no owner: it is made anew in a thread, where the lock may not be asked.
        evidence = partial(self.keys.evidence, BOOT_NONCE)
        async with serve_directly(self.launch, answer, self.keys.tls_key, evidence):
            yield

    async def answer(self, mail: Mail) -> MailReply:
        """Reply to the owner's message; a refusal's code depends on public facts only."""
        try:
            if mail.kind is MailKind.EVIDENCE and mail.evidence is not None:
                return MailReply(evidence=self._evidence(mail.evidence.nonce))
            if mail.kind is MailKind.OPEN and mail.message is not None:
                return _sealed(await self._open(mail.message.sealed))
            self.lock.opened()
            if mail.kind is MailKind.QUERY and mail.message is not None:
                return _sealed(await self._answer_query(mail.message.sealed))
            if mail.kind is MailKind.GIVE and mail.upgrade is not None:
                return MailReply(evidence=await self._give_away(mail.upgrade))
        except REFUSALS as error:
            return MailReply(refusal=error.code)
        return MailReply(refusal="message-unexpected")

    async def settle(self) -> None:
        """Lock the model for good, and leave word of what was answered since it was last opened."""
        settlement = self.lock.close()
        if settlement is None:
            return
        try:
            async with asyncio.timeout(SETTLING_S):
                await self.gateway.put_object(objects.settlement().name, settlement)
        except (EnclaveError, TimeoutError):
            _LOG.info("no settlement was stored: the owner counts all that was lent as answered")

    def _evidence(self, nonce: bytes) -> Evidence:
        return self.keys.evidence(nonce, self.lock.owner)

    async def _give_away(self, mail: UpgradeMail) -> Evidence:
        # Before anything leaves us: no row is answered that the settlement would not count.
        opened = self.lock.hold()
        try:
            evidence = await give_away(
                mail,
                launch=self.launch,
                platform=self.platform,
                gateway=self.gateway,
                keys=self.keys,
                sealed_model=self.lock.sealed,
                share=opened.share,
            )
        except BaseException:
            self.lock.release()
            raise
        await self.settle()
        return evidence

    async def _open(self, sealed: bytes) -> bytes:
        """Take an opening. One that has the model loaded is answered at the end of a slot, or of a few more.

        Raises:
            OpeningRefused: `ModelLock.open` did not take it; or the model was not loaded by then.
        """
        loaded = self.lock.owner is not None
        opening = asyncio.ensure_future(self._take_opening(sealed))
        length = opening_s(self.launch.spec)
        if not loaded and not await self._slot(opening, length, further=MOST_LATE_SLOTS):
            self._let_be(opening)
            raise OpeningRefused("opening-late", "the model is still being loaded: open it again")
        return await opening

    async def _take_opening(self, sealed: bytes) -> bytes:
        settlement = await self.lock.open(sealed)
        self.taken.keep(self.lock.opened().askers.ids)
        return settlement

    async def _slot(self, work: asyncio.Future[Any], length_s: float, further: int = 0) -> bool:
        """Wait for the end of a slot that begins now, or of `further` ones; whether the work is done."""
        slots = Slots(further, paced=not self.launch.spec.exchange.unpaced)
        slots.begin()
        return await slots.end(work, length_s)

    def _let_be(self, work: asyncio.Future[Any]) -> None:
        """Wait no more for what the engine is not done with."""
        self.behind.add(work)
        work.add_done_callback(self._caught_up)

    def _caught_up(self, work: asyncio.Future[Any]) -> None:
        self.behind.discard(work)
        if not work.cancelled():
            # Nobody asks for it any more: it is no error of the role's.
            work.exception()

    async def _answer_query(self, sealed: bytes) -> bytes:
        spec = self.launch.spec
        try:
            # Few at a time: each takes several copies of a query and an answer as long as may be.
            async with self.answering:
                # Looked up beforehand: only the event loop may lock a model, or a count could be lost.
                key_of = self.lock.opened().askers.key_of
                query = await asyncio.to_thread(open_query, spec, sealed, self.keys.key, key_of)
                # Before anything is spent or computed for it.
                self.taken.take(query.asker, query.request_id)
                return await asyncio.to_thread(seal_answer, spec, query, await self._in_time(query))
        except QueryError as error:
            raise QueryRefused(error.code, "not a query that is answered") from error

    async def _in_time(self, query: Query) -> Answer:
        """What the query's asker is told at the end of the slot, whatever came of it and when.

        Raises:
            PredictorLocked: the model was locked before that.
            QueryUnauthorised: the query's pass holds no longer.
        """
        said: list[Answer] = []
        predicting = asyncio.ensure_future(self._predict(query, said.append))
        if await self._slot(predicting, answer_s(self.launch.spec)):
            predicting.result()
        else:
            self._let_be(predicting)
        # Whatever was computed: nothing leaves a model that was locked meanwhile.
        self.lock.opened()
        return said[-1]

    async def _predict(self, query: Query, say: Callable[[Answer], None]) -> None:
        """Say what the query's asker is to be told: first what holds if it comes to no more in time."""
        spec, opened = self.launch.spec, self.lock.opened()
        say(refused(spec, query.request_id, AnswerOutcome.TOO_LATE))
        asker = opened.askers.find(query.asker)
        if asker is None:
            raise QueryUnauthorised("the query's pass holds no longer")
        if opened.model is None:
            say(refused(spec, query.request_id, AnswerOutcome.MODEL_UNUSABLE))
            return
        if len(self.behind) >= ANSWERED_AT_ONCE:
            # The engine is still busy with earlier ones, whose askers were told the same.
            return
        spent = opened.askers.spend(asker, len(query.x), self.lock.seconds())
        left = opened.askers.left(asker)
        if isinstance(spent, AnswerOutcome):
            say(refused(spec, query.request_id, spent, left=left))
            return
        signed = sign_statement(spent, self.keys.tls_key)
        say(refused(spec, query.request_id, AnswerOutcome.TOO_LATE, signed, left))
        try:
            predicted = await opened.model.predict(query.x)
        except Exception:
            # Whatever the engine says of these rows, only their owner may learn it.
            say(refused(spec, query.request_id, AnswerOutcome.PREDICTION_FAILED, signed, left))
        else:
            say(answered(spec, query.request_id, predicted, asker.policy, signed, left))


def _sealed(content: bytes) -> MailReply:
    return MailReply(message=SealedMessage(sealed=content))
