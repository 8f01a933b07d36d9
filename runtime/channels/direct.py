"""A predictor's own door, for owners who reach it directly: three of the gateway's paths, served over RA-TLS.

A predictor has no CA, so its certificate is self-signed and carries evidence. By the handshake the owner
knows whom she speaks to. Nothing else changes: queries and answers are sealed as through the gateway.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ValidationError

from chiron.runtime.attestation.ra_tls import evidence_extension
from chiron.runtime.channels.renewal import kept_current
from chiron.runtime.channels.tls import load_key
from chiron.runtime.queries.query import query_bytes
from chiron.wire import paths
from chiron.wire.answers import json_response, refusal
from chiron.wire.attestation import Evidence, Role
from chiron.wire.doors import BodyTooSlow, open_door, read_stranger
from chiron.wire.enclave_api import EvidenceRequest, Mail, MailKind, MailReply, SealedMessage
from chiron.wire.encoding import WireModel
from chiron.wire.errors import LimitExceeded
from chiron.wire.launch import LaunchSpec
from chiron.wire.p256 import Issuer, common_name
from chiron.wire.public_api import EvidenceDemand

_SLACK_BYTES = 64 * 1024
"""JSON and seals around what is asked; all of a demand for evidence."""
_OPENING_BYTES = 512 * 1024
"""A sealed opening with its passes, in base64."""
_MAIL_ID = "0" * 32
"""Mail that came by this door is answered in place, so it needs no name of its own."""

_LIFETIME = timedelta(days=30)
"""Of a certificate that is made anew long before; its evidence is what counts."""
Answer = Callable[[Mail], Awaitable[MailReply]]
_Handler = Callable[[web.Request], Awaitable[web.Response]]
_Message = TypeVar("_Message", bound=WireModel)


@asynccontextmanager
async def serve_directly(
    launch: LaunchSpec, answer: Answer, key: ec.EllipticCurvePrivateKey, evidence: Callable[[], Evidence]
) -> AsyncIterator[None]:
    """Serve `answer` at the launch's address while the block lasts.

    `evidence` makes evidence that binds `key`. It is shown in the certificate, which is made anew before its
    collateral ends; connections that are open go on.
    """
    app = web.Application()
    app.add_routes(_routes(launch, answer))
    first = evidence()
    context = attested_server_context(key, attested_certificate(key, first, datetime.now(UTC)))

    async def show(newer: Evidence) -> None:
        load_key(context, key, attested_certificate(key, newer, datetime.now(UTC)))

    async with (
        open_door(app, launch.listen_host, launch.listen_port, context=context),
        kept_current(first, evidence, show),
    ):
        yield


def attested_certificate(
    key: ec.EllipticCurvePrivateKey, evidence: Evidence, now: datetime
) -> x509.Certificate:
    """A certificate for `key` with evidence whose claims bind it; its name and dates say nothing."""
    issuer = Issuer(common_name(f"chiron {evidence.claims.role}"), key)
    return issuer.issue(
        issuer.name,
        key.public_key(),
        now,
        _LIFETIME,
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


def _routes(launch: LaunchSpec, answer: Answer) -> list[web.RouteDef]:
    longest = query_bytes(launch.spec) * 4 // 3 + _SLACK_BYTES

    async def evidence(request: web.Request) -> web.Response:
        demand = await _read(request, EvidenceDemand, _SLACK_BYTES)
        if demand.role is not Role.PREDICTOR:
            return refusal(404, "role-unknown")
        asked = EvidenceRequest(nonce=demand.nonce)
        return _reply(await answer(Mail(id=_MAIL_ID, kind=MailKind.EVIDENCE, evidence=asked)))

    def sealed(kind: MailKind, limit: int) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            message = await _read(request, SealedMessage, limit)
            return _reply(await answer(Mail(id=_MAIL_ID, kind=kind, message=message)))

        return _refusing(handle)

    return [
        web.post(paths.JOB_EVIDENCE.of(launch.job), _refusing(evidence)),
        web.post(paths.JOB_OPENING.of(launch.job), sealed(MailKind.OPEN, _OPENING_BYTES)),
        web.post(paths.JOB_QUERIES.of(launch.job), sealed(MailKind.QUERY, longest)),
    ]


async def _read(request: web.Request, model: type[_Message], limit: int) -> _Message:
    return model.model_validate_json(await read_stranger(request, limit))


def _refusing(handler: _Handler) -> _Handler:
    async def refusing(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except ValidationError:
            return refusal(400, "request-malformed")
        except LimitExceeded as error:
            return refusal(413, error.code)
        except BodyTooSlow as error:
            return refusal(408, error.code)

    return refusing


def _reply(reply: MailReply) -> web.Response:
    answer: BaseModel | None = reply.evidence or reply.message
    if answer is None:
        return refusal(409, reply.refusal or "answer-unexpected")
    return json_response(answer)
