"""Enclaves that are scripts: they speak the real enclave API over the real socket, or misbehave.

A script plays one role and returns its exit code. Those of `ORDERLY` play a job that succeeds, with evidence
that is only well-formed; those of `tests.support.attested_scripts` are accepted by an owner too.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from chiron.api.errors import EnclaveNotStarted
from chiron.api.launchers.launcher import LaunchOrder, Order
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.wire import objects
from chiron.wire.attestation import Claims, Collateral, Evidence, Role
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Progress, Ready, SealedMessage
from chiron.wire.jobs import JobState
from chiron.wire.launch import GatewayChannel
from tests.support.launcher import SimulatedLauncher, TaskEnclave

REFUSED_GRANT = b"a grant for another job"


@dataclass
class Launched:
    """What a script knows of its launch."""

    order: LaunchOrder
    gateway: GatewayClient
    trained: asyncio.Event
    """Set by trainer 0 when its work is stored; stands for what enclaves tell each other by TLS."""


Script: TypeAlias = Callable[[Launched], Awaitable[int]]


class Scripts:
    """See `tests.support.launcher.Backend`: runs `scripts[role]` for each order."""

    def __init__(self, socket: Path, scripts: dict[Role, Script] | None = None) -> None:
        """`socket` is the gateway's, and `scripts` the orderly ones unless told otherwise."""
        self.socket = socket
        self.scripts = dict(scripts or ORDERLY)
        self._trained: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def start(self, order: Order, name: str) -> TaskEnclave:
        """See `Backend.start`. There is no script that tells a machine's key."""
        if not isinstance(order, LaunchOrder):
            raise EnclaveNotStarted("scripts play roles of jobs")
        return TaskEnclave(name, asyncio.create_task(self._run(order)))

    async def _run(self, order: LaunchOrder) -> int:
        async with GatewayClient(GatewayChannel(socket=str(self.socket), token=order.token)) as gateway:
            return await self.scripts[order.role](Launched(order, gateway, self._trained[order.job]))

    async def close(self) -> None:
        """Nothing is shared."""


def scripted(socket: Path, scripts: dict[Role, Script] | None = None) -> SimulatedLauncher[Scripts]:
    """A launcher of scripts."""
    return SimulatedLauncher(Scripts(socket, scripts))


def evidence(order: LaunchOrder, nonce: bytes) -> Evidence:
    """Well-formed; the gateway cannot and need not tell whether it is genuine."""
    text = dict.fromkeys(Collateral.model_fields, "")
    ca = "cd" * 32 if order.role is Role.PARAMETER_SERVER else None
    claims = Claims(
        role=order.role, job=order.job, hpke_public_key=bytes(1216), tls_ca_sha256=ca, nonce=nonce
    )
    return Evidence(quote=b"quote", collateral=Collateral.model_validate(text), claims=claims)


async def parameter_server(me: Launched) -> int:
    """Takes its grant, waits for the leading trainer, reports the end."""
    exchanges = me.order.spec.exchange.exchanges
    await me.gateway.progress(Progress(state=JobState.AWAITING_GRANT))
    answers = asyncio.create_task(_serve_mail(me))
    await answers
    await me.gateway.ready(Ready(address="127.0.0.1:7", evidence=evidence(me.order, bytes(32))))
    await me.gateway.progress(Progress(state=JobState.BUILDING))
    for done in range(1, exchanges + 1):
        await me.gateway.progress(Progress(state=JobState.TRAINING, exchanges_done=done))
    await me.trained.wait()
    await me.gateway.progress(Progress(state=JobState.SUCCEEDED, exchanges_done=exchanges))
    return 0


async def _serve_mail(me: Launched) -> None:
    """Answer until there is a good grant."""
    async for mail in me.gateway.mail():
        reply = _answer(me, mail)
        await me.gateway.reply(mail, reply)
        if mail.kind is MailKind.GRANT and reply.refusal is None:
            return


def _answer(me: Launched, mail: Mail) -> MailReply:
    if mail.evidence is not None:
        return MailReply(evidence=evidence(me.order, mail.evidence.nonce))
    assert mail.message is not None
    if mail.kind is MailKind.GRANT:
        refused = mail.message.sealed == REFUSED_GRANT
        return MailReply(refusal="grant-for-another-job") if refused else MailReply()
    return MailReply(message=SealedMessage(sealed=b"answer to " + mail.message.sealed))


async def trainer(me: Launched) -> int:
    """Reads its partition; the leading one stores what a job makes."""
    await me.gateway.parameter_server()
    spec = me.order.spec
    await me.gateway.builder(spec.builder_sha256)
    for number in range(me.order.index, spec.dataset.chunks, spec.exchange.trainers):
        dataset = spec.dataset
        await me.gateway.chunk(dataset.dataset_id, number, dataset.chunk_ciphertext_bytes)
    if me.order.index == 0:
        for exchange in range(spec.exchange.exchanges):
            await me.gateway.put_object(objects.report(exchange).name, b"r" * 1100)
        await me.gateway.put_object("model", b"m" * 5000)
        await me.gateway.put_object(objects.outcome().name, b"o" * 8300)
        me.trained.set()
    return 0


async def predictor(me: Launched) -> int:
    """Answers queries until it is stopped."""
    await me.gateway.get_object("model", 10_000)
    await me.gateway.ready(Ready())
    async for mail in me.gateway.mail():
        await me.gateway.reply(mail, _answer(me, mail))
    return 0


async def silent(me: Launched) -> int:
    """Never calls."""
    await asyncio.Event().wait()
    return 0


def exits(code: int) -> Script:
    """Ends at once."""

    async def script(me: Launched) -> int:
        return code

    return script


ORDERLY: dict[Role, Script] = {
    Role.PARAMETER_SERVER: parameter_server,
    Role.TRAINER: trainer,
    Role.PREDICTOR: predictor,
}
