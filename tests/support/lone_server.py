"""A parameter server that a host starts by itself, with whatever objects it likes, as often as it likes."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.roles import parameter_server
from chiron.wire.attestation import Evidence, Role
from chiron.wire.codes import PROBLEM_CONTENT_TYPE, Problem
from chiron.wire.enclave_api import (
    EvidenceRequest,
    Mail,
    MailKind,
    MailReply,
    Progress,
    Ready,
    SealedMessage,
)
from chiron.wire.jobs import JobSpec
from chiron.wire.launch import GatewayChannel
from tests.support.specs import launch_spec

_REFUSED = Problem(title="refused", status=409, code="refused").model_dump_json().encode()


@dataclass
class ScriptedGateway:
    """The enclave-facing paths, with a mailbox that the test writes to."""

    ready: "asyncio.Future[Ready]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    letters: "asyncio.Queue[Mail]" = field(default_factory=asyncio.Queue)
    replies: "asyncio.Queue[MailReply]" = field(default_factory=asyncio.Queue)
    objects: dict[str, bytes] = field(default_factory=dict)
    told: list[Progress] = field(default_factory=list)
    announced: list[Ready] = field(default_factory=list)
    """Where it is, each time that it said so."""
    refuses_ready: int = 0
    """How many of the next times, after the first, are refused."""

    async def evidence(self) -> tuple[Evidence, bytes]:
        """The enclave's evidence, and the nonce that it was asked over."""
        nonce = secrets.token_bytes(32)
        mail = Mail(id="0" * 32, kind=MailKind.EVIDENCE, evidence=EvidenceRequest(nonce=nonce))
        evidence = (await self.ask(mail)).evidence
        assert evidence is not None
        return evidence, nonce

    async def grant(self, sealed: bytes) -> str | None:
        """Hand a sealed grant over; the enclave's refusal."""
        message = SealedMessage(sealed=sealed)
        return (await self.ask(Mail(id="1" * 32, kind=MailKind.GRANT, message=message))).refusal

    async def ask(self, mail: Mail) -> MailReply:
        await self.letters.put(mail)
        return await asyncio.wait_for(self.replies.get(), 30)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/enclave/v1/ready", self._ready),
            web.post("/enclave/v1/progress", self._progress),
            web.get("/enclave/v1/mailbox", self._mailbox),
            web.post("/enclave/v1/mailbox/{id}", self._reply),
            web.get("/enclave/v1/objects/{name}", self._get),
            web.put("/enclave/v1/objects/{name}", self._put),
        ]

    async def _ready(self, request: web.Request) -> web.Response:
        if self.announced and self.refuses_ready:
            self.refuses_ready -= 1
            return web.Response(status=409, content_type=PROBLEM_CONTENT_TYPE, body=_REFUSED)
        self.announced.append(Ready.model_validate_json(await request.read()))
        if not self.ready.done():
            self.ready.set_result(self.announced[0])
        return web.Response(status=204)

    async def _progress(self, request: web.Request) -> web.Response:
        self.told.append(Progress.model_validate_json(await request.read()))
        return web.Response(status=204)

    async def _mailbox(self, _: web.Request) -> web.Response:
        return web.Response(body=(await self.letters.get()).model_dump_json().encode())

    async def _reply(self, request: web.Request) -> web.Response:
        await self.replies.put(MailReply.model_validate_json(await request.read()))
        return web.Response(status=204)

    async def _get(self, request: web.Request) -> web.Response:
        if request.match_info["name"] in self.objects:
            return web.Response(body=self.objects[request.match_info["name"]])
        problem = Problem(title="unknown", status=404, code="object-unknown")
        return web.Response(
            status=404, body=problem.model_dump_json().encode(), content_type=PROBLEM_CONTENT_TYPE
        )

    async def _put(self, request: web.Request) -> web.Response:
        self.objects[request.match_info["name"]] = await request.read()
        return web.Response(status=204)


@asynccontextmanager
async def started(
    spec: JobSpec,
    platform: Platform,
    objects: dict[str, bytes] | None = None,
    machines: tuple[str, ...] = (),
) -> AsyncIterator[ScriptedGateway]:
    """One start of the parameter-server role over these objects; ended as if by SIGKILL.

    `machines` are the digests of keys that its operator lets grants name.
    """
    scripted = ScriptedGateway(objects=dict(objects or {}))
    app = web.Application(client_max_size=2**26)
    app.add_routes(scripted.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    with TemporaryDirectory(prefix="chiron-") as directory:
        socket = Path(directory, "g.sock")
        await web.UnixSite(runner, str(socket)).start()
        channel = GatewayChannel(socket=str(socket), token="t")
        launch = launch_spec(spec, Role.PARAMETER_SERVER, channel, machines=machines)
        role = asyncio.create_task(parameter_server.run(launch, platform))
        try:
            yield scripted
        finally:
            role.cancel()
            await asyncio.gather(role, return_exceptions=True)
            await runner.cleanup()
