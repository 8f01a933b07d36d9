"""A launcher whose enclaves are tasks: they speak the real enclave API over the real socket, or misbehave."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from chiron.api.launchers.launcher import LaunchOrder
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.wire import objects
from chiron.wire.attestation import Claims, Collateral, Evidence, Role
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Progress, Ready, SealedMessage
from chiron.wire.jobs import JobState
from chiron.wire.launch import GatewayChannel
from chiron.wire.public_api import ImageInfo

REFUSED_GRANT = b"a grant for another job"
STOPPED = -15


@dataclass
class Launched:
    """What a script knows of its launch."""

    order: LaunchOrder
    gateway: GatewayClient
    world: "SimulatedLauncher"
    trained: asyncio.Event
    """Set by trainer 0 when its work is stored; stands for what enclaves tell each other by TLS."""


Script = Callable[[Launched], Awaitable[int]]


class SimulatedEnclave:
    """One running script."""

    door: str | None = None

    def __init__(self, name: str, task: asyncio.Task[int]) -> None:
        self.name = name
        self._task = task

    async def wait(self) -> int:
        await asyncio.wait({self._task})
        if self._task.cancelled():
            return STOPPED
        return 1 if self._task.exception() else self._task.result()

    async def stop(self, grace_s: float) -> None:
        self._task.cancel()
        await self.wait()


@dataclass
class SimulatedLauncher:
    """Runs `scripts[role]` for each order."""

    socket: Path
    scripts: dict[Role, Script] = field(default_factory=lambda: dict(ORDERLY))
    measurement: str = "ab" * 32
    refuses: frozenset[Role] = frozenset()
    orders: list[LaunchOrder] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.images: tuple[ImageInfo, ...] = (ImageInfo(measurement=self.measurement),)
        self.running: set[asyncio.Task[int]] = set()
        self._ordered = asyncio.Condition()
        self._trained: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def launched(self, count: int) -> list[LaunchOrder]:
        """The first `count` orders, once they were given."""
        async with asyncio.timeout(5), self._ordered:
            await self._ordered.wait_for(lambda: len(self.orders) >= count)
        return self.orders[:count]

    async def launch(self, order: LaunchOrder) -> SimulatedEnclave:
        if order.role in self.refuses:
            raise OSError("no room for /secret/path")
        async with self._ordered:
            self.orders.append(order)
            self._ordered.notify_all()
        task = asyncio.create_task(self._run(order))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return SimulatedEnclave(f"simulated-{order.role}-{order.index}", task)

    async def release(self, job: str) -> None:
        self.released.append(job)

    async def close(self) -> None:
        self.closed = True

    async def _run(self, order: LaunchOrder) -> int:
        async with GatewayClient(GatewayChannel(socket=str(self.socket), token=order.token)) as gateway:
            return await self.scripts[order.role](Launched(order, gateway, self, self._trained[order.job]))


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
