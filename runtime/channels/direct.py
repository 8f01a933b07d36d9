"""A predictor's own door, for owners who reach it directly: three of the gateway's paths, served over RA-TLS.

A predictor has no CA, so its certificate is self-signed and carries evidence. By the handshake the owner
knows whom she speaks to. Nothing else changes: queries and answers are sealed as through the gateway.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ValidationError

from chiron.runtime.attestation.ra_tls import evidence_extension
from chiron.runtime.channels.job_ca import LIFETIME
from chiron.runtime.channels.tls import load_key
from chiron.runtime.errors import PlatformUnavailable
from chiron.wire import paths
from chiron.wire.answers import json_response, refusal
from chiron.wire.attestation import Evidence, Role
from chiron.wire.enclave_api import EvidenceRequest, Mail, MailKind, MailReply, SealedMessage
from chiron.wire.launch import LaunchSpec
from chiron.wire.p256 import Issuer, common_name
from chiron.wire.public_api import EvidenceDemand

MAX_QUERY_BYTES = 64 * 2**20
RENEW_S = 6 * 3600.0
"""How often the certificate is made anew. Collateral is good for about a month, and so is evidence."""
_LOG = logging.getLogger(__name__)
_MAIL_ID = "0" * 32
"""Mail that came by this door is answered in place, so it needs no name of its own."""

Answer = Callable[[Mail], Awaitable[MailReply]]


async def serve_directly(
    launch: LaunchSpec, answer: Answer, key: ec.EllipticCurvePrivateKey, evidence: Callable[[], Evidence]
) -> web.AppRunner:
    """Serve `answer` at the launch's address until the returned runner is cleaned up.

    `evidence` makes evidence that binds `key`. It is shown in the certificate, which is made anew from time
    to time with newer collateral; connections that are open go on.
    """
    context = attested_server_context(key, attested_certificate(key, evidence(), datetime.now(UTC)))

    async def renewing(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_renew(context, key, evidence))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = web.Application(client_max_size=MAX_QUERY_BYTES)
    app.add_routes(_routes(launch.job, answer))
    app.cleanup_ctx.append(renewing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, launch.listen_host, launch.listen_port, ssl_context=context).start()
    return runner


async def _renew(
    context: ssl.SSLContext, key: ec.EllipticCurvePrivateKey, evidence: Callable[[], Evidence]
) -> None:
    """Show a newer certificate from time to time, from the next handshake on."""
    while True:
        await asyncio.sleep(RENEW_S)
        try:
            newer = await asyncio.to_thread(evidence)
        except PlatformUnavailable:
            _LOG.warning("no newer evidence for the door's certificate: it keeps the one that it has")
            continue
        load_key(context, key, attested_certificate(key, newer, datetime.now(UTC)))


def attested_certificate(
    key: ec.EllipticCurvePrivateKey, evidence: Evidence, now: datetime
) -> x509.Certificate:
    """A certificate for `key` with evidence whose claims bind it; its name and dates say nothing."""
    issuer = Issuer(common_name(f"chiron {evidence.claims.role}"), key)
    return issuer.issue(
        issuer.name,
        key.public_key(),
        now,
        LIFETIME,
        critical=[x509.BasicConstraints(ca=False, path_length=None)],
        informative=[evidence_extension(evidence)],
    )


def attested_server_context(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    """TLS 1.3 for a server that asks nobody for a certificate: what it is sent is sealed, or public."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No tickets: every connection shows the evidence.
    context.num_tickets = 0
    load_key(context, key, certificate)
    return context


def _routes(job: str, answer: Answer) -> list[web.RouteDef]:
    async def evidence(request: web.Request) -> web.Response:
        try:
            demand = EvidenceDemand.model_validate_json(await request.read())
        except ValidationError:
            return refusal(400, "request-malformed")
        if demand.role is not Role.PREDICTOR:
            return refusal(404, "role-unknown")
        asked = EvidenceRequest(nonce=demand.nonce)
        return _reply(await answer(Mail(id=_MAIL_ID, kind=MailKind.EVIDENCE, evidence=asked)))

    def sealed(kind: MailKind) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                message = SealedMessage.model_validate_json(await request.read())
            except ValidationError:
                return refusal(400, "request-malformed")
            return _reply(await answer(Mail(id=_MAIL_ID, kind=kind, message=message)))

        return handle

    return [
        web.post(paths.JOB_EVIDENCE.of(job), evidence),
        web.post(paths.JOB_OPENING.of(job), sealed(MailKind.OPEN)),
        web.post(paths.JOB_QUERIES.of(job), sealed(MailKind.QUERY)),
    ]


def _reply(reply: MailReply) -> web.Response:
    answer: BaseModel | None = reply.evidence or reply.message
    if answer is None:
        return refusal(409, reply.refusal or "answer-unexpected")
    return json_response(answer)
