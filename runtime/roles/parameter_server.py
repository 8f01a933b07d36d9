"""The parameter-server role: takes the owner's grant, enrols trainers, merges their work, ends the job.

It is the job's root of trust: the owner verifies its evidence and no other, and it verifies the trainers in
the owner's name. One that is started again after a crash knows nothing until the owner sends it the same
grant again, whose share opens its checkpoint; or it goes on alone, where the grant says so.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from aiohttp import web
from cryptography import x509

from chiron.ps.routes import exchange_routes
from chiron.ps.streams import keep_freed_pieces
from chiron.runtime.attestation.platform import BOOT_NONCE, Platform, attest
from chiron.runtime.channels.enrolment import Registrar, Ticket, enrolment_routes
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.job_ca import SERVER_NAME, JobCa
from chiron.runtime.channels.peers import clock_from, narrowed
from chiron.runtime.channels.renewal import kept_current
from chiron.runtime.channels.tls import load_key, server_context
from chiron.runtime.errors import GatewayRefused, GrantRefused, InputCorrupted, LaunchInvalid, TooLarge
from chiron.runtime.pacing import slot_s
from chiron.runtime.roles.grant import check_expiry, grant_name, open_grant
from chiron.runtime.roles.public_failure import failing_publicly
from chiron.runtime.roles.served_exchange import ServedExchange, listening
from chiron.runtime.roles.server_checkpoint import Kept, ServerCheckpoint
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.runtime.sealing.machine_key import refusal
from chiron.wire import codes, paths
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Progress, Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobState
from chiron.wire.launch import LaunchSpec
from chiron.wire.p256 import generate_key, public_key_der


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Serve one job from its grant to its end."""
    if launch.index != 0:
        raise LaunchInvalid("launch-spec-invalid", "a job has one parameter server; the others are shards")
    keep_freed_pieces()
    async with GatewayClient(launch.gateway) as gateway, failing_publicly(gateway):
        await _Job(launch, platform, gateway).run()


class _Job:
    def __init__(self, launch: LaunchSpec, platform: Platform, gateway: GatewayClient) -> None:
        self._launch = launch
        self._platform = platform
        self._gateway = gateway
        self._hpke_key = PrivateKey.generate()
        self._tls_key = generate_key()
        self._ca = JobCa(launch.job, datetime.now(UTC))
        self._grant: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._exchange = ServedExchange(launch, self._save)
        self._checkpoint = ServerCheckpoint(launch.spec, platform, gateway)
        self._kept: Kept | None = None
        """What an earlier start of us has left."""
        self._followed = asyncio.Event()
        """All exchanges are made, and the gateway knows it."""
        self._finished = asyncio.Event()

    async def run(self) -> None:
        self._kept = await self._checkpoint.load(self._exchange.server)
        async with asyncio.TaskGroup() as tasks:
            mailbox = tasks.create_task(self._answer_mail())
            grant = await self._granted()
            if grant is None:
                await self._tell_end()
            else:
                await self._serve(grant)
            mailbox.cancel()

    async def _granted(self) -> Grant | None:
        """The grant that we go on with, however we come by it. None where the job was over before we started.

        Raises:
            GrantRefused: it has expired.
            InputCorrupted: the host withholds a checkpoint.
        """
        if self._kept is None:
            await self._ask_for_a_grant()
        elif self._kept.ended:
            return None
        elif self._kept.grant is not None:
            check_expiry(self._kept.grant, datetime.now(UTC))
            self._grant.set_result(self._kept.grant)
        else:
            await self._gateway.progress(Progress(state=JobState.AWAITING_GRANT, again=True))
        grant = await self._grant
        return None if self._kept is not None and self._kept.ended else grant

    async def _tell_end(self) -> None:
        exchanges = self._launch.spec.exchange.exchanges
        await self._gateway.progress(Progress(state=JobState.SUCCEEDED, exchanges_done=exchanges))

    async def _ask_for_a_grant(self) -> None:
        """Tell that we wait for one.

        Raises:
            InputCorrupted: the job had its grant, and the host has not given us the checkpoint that holds it.
        """
        try:
            await self._gateway.progress(Progress(state=JobState.AWAITING_GRANT))
        except GatewayRefused as error:
            if error.code != codes.PROGRESS_REFUSED:
                raise
            raise InputCorrupted("checkpoint-withheld", "the host withheld the checkpoint") from error

    def _evidence(self, nonce: bytes) -> Evidence:
        claims = Claims(
            role=Role.PARAMETER_SERVER,
            job=self._launch.job,
            hpke_public_key=self._hpke_key.public_bytes,
            tls_ca_sha256=sha256_hex(self._ca.certificate_der),
            tls_public_key_sha256=sha256_hex(public_key_der(self._tls_key.public_key())),
            nonce=nonce,
        )
        return attest(self._platform, claims)

    async def _answer_mail(self) -> None:
        async for mail in self._gateway.mail():
            await self._gateway.reply(mail, await self._answer(mail))

    async def _answer(self, mail: Mail) -> MailReply:
        """Answer the owner's message; a refusal names a code that depends on public facts only."""
        try:
            if mail.kind is MailKind.EVIDENCE and mail.evidence is not None:
                return MailReply(evidence=self._evidence(mail.evidence.nonce))
            if mail.kind is MailKind.GRANT and mail.message is not None:
                sealed, spec = mail.message.sealed, self._launch.spec
                await self._accept(open_grant(sealed, self._hpke_key, spec, datetime.now(UTC)))
                return MailReply()
        except GrantRefused as error:
            return MailReply(refusal=error.code)
        return MailReply(refusal="message-unexpected")

    async def _accept(self, grant: Grant) -> None:
        if self._grant.done():
            raise GrantRefused(codes.GRANT_ALREADY_GIVEN, "this job has its grant")
        refused = refusal(self._platform, grant.machines, self._launch.machines or ())
        if refused is not None:
            raise GrantRefused(refused, "objects are not sealed to a machine that the grant names")
        if self._kept is None:
            await self._keep(grant)
        else:
            try:
                self._kept = await self._checkpoint.unlock(grant, self._exchange.server)
            except InputCorrupted as error:
                raise GrantRefused(error.code, str(error)) from None
        self._grant.set_result(grant)

    async def _keep(self, grant: Grant) -> None:
        try:
            # Before the owner is told: a crash after that must not lose the grant.
            await self._checkpoint.save(grant, self._exchange.server)
        except TooLarge as error:
            raise GrantRefused("grant-too-large", "the grant does not fit a checkpoint") from error

    async def _save(self) -> None:
        await self._checkpoint.save(self._grant.result(), self._exchange.server)

    async def _serve(self, grant: Grant) -> None:
        spec = self._launch.spec
        self._ca.last_until(datetime.fromtimestamp(grant.expires_at, UTC))
        own = self._evidence(BOOT_NONCE)
        clock = clock_from(grant.issued_at)
        policy = narrowed(grant.attestation, own)
        name = grant_name(grant, spec.digest())
        registrar = Registrar(spec, self._ca, policy, clock, name, grant.share, grant.machines)
        ticket = Ticket(
            spec=spec,
            dataset_key=grant.dataset_key,
            capabilities=grant.capabilities,
            prediction=grant.prediction,
            owner_public_key=grant.owner_public_key,
            owner_signing_key=grant.owner_signing_key,
            attestation=grant.attestation,
            share=grant.share,
            machines=grant.machines,
        )
        context = server_context(self._tls_key, self._certificate(own), self._ca.certificate)
        async with (
            listening(self._routes(registrar, ticket), self._launch, context) as address,
            self._shown(own, context, address, clock),
        ):
            if self._exchange.server.exchange.next == 0:
                # Also where a crash came between the grant and this word.
                await self._gateway.progress(Progress(state=JobState.BUILDING))
            await self._exchange.serve_until(self._follow_schedule())
            # Before the end is told, after which the gateway stores nothing more of us.
            await self._checkpoint.forget(grant)
            await self._tell_end()

    def _certificate(self, own: Evidence) -> x509.Certificate:
        return self._ca.issue_server(self._tls_key.public_key(), SERVER_NAME, own)

    @asynccontextmanager
    async def _shown(
        self, own: Evidence, context: ssl.SSLContext, address: str, clock: Callable[[], datetime]
    ) -> AsyncIterator[None]:
        """Tell the gateway where we are, with evidence that whoever comes later can still verify."""

        async def tell(evidence: Evidence) -> None:
            await self._gateway.ready(
                Ready(address=address, evidence=evidence, tls_ca=self._ca.certificate_der)
            )

        async def show(newer: Evidence) -> None:
            load_key(context, self._tls_key, self._certificate(newer))
            await tell(newer)

        await tell(own)
        async with kept_current(own, partial(self._evidence, BOOT_NONCE), show, clock=clock):
            yield

    async def _follow_schedule(self) -> None:
        server = self._exchange.server
        for exchange in range(server.exchange.next + 1, self._launch.spec.exchange.exchanges + 1):
            await server.completed(exchange)
            await self._gateway.progress(
                Progress(state=JobState.TRAINING, exchanges_done=exchange, slot_s=self._slot_s())
            )
        self._followed.set()
        await self._finished.wait()

    def _slot_s(self) -> float | None:
        """The slot before an exchange, where the job is paced and its trainers have agreed on one."""
        agreed = self._exchange.server.slots
        return None if agreed.trial < 0 else slot_s(self._launch.spec, agreed.rung)

    def _routes(self, registrar: Registrar, ticket: Ticket) -> list[web.RouteDef]:
        return [
            *enrolment_routes(registrar, ticket, self._finished),
            *exchange_routes(self._exchange.server, registrar.identify),
            web.post(paths.STATE, self._state_handler(registrar)),
        ]

    def _state_handler(self, registrar: Registrar) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def advance(request: web.Request) -> web.Response:
            """The leading trainer says how far the public schedule is."""
            if registrar.identify(request) != 0:
                raise web.HTTPForbidden
            state = Progress.model_validate_json(await request.read()).state
            if state is JobState.SUCCEEDED:
                self._finished.set()
            else:
                # Without a barrier the leading trainer may be far ahead of the others.
                await self._followed.wait()
                done = self._launch.spec.exchange.exchanges
                await self._gateway.progress(Progress(state=state, exchanges_done=done))
            return web.Response(status=204)

        return advance
