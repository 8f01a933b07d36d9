"""A predictor's own door: the gateway's two paths of it, served over RA-TLS to owners who reach it directly.

Nothing here is trusted more or told more than through the gateway: queries and answers are sealed all the
same. What it adds is that the owner knows by the handshake whom she speaks to.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ValidationError

from chiron.runtime.channels.attested import attested_certificate, attested_server_context
from chiron.wire import paths
from chiron.wire.attestation import Evidence, Role
from chiron.wire.enclave_api import EvidenceRequest, Mail, MailKind, MailReply, SealedMessage
from chiron.wire.launch import LaunchSpec
from chiron.wire.problems import PROBLEM_CONTENT_TYPE, Problem
from chiron.wire.public_api import EvidenceDemand

MAX_QUERY_BYTES = 64 * 2**20
_MAIL_ID = "0" * 32
"""Mail that came by this door is answered in place, so it needs no name of its own."""

Answer = Callable[[Mail], Awaitable[MailReply]]


async def serve_directly(
    launch: LaunchSpec, answer: Answer, key: ec.EllipticCurvePrivateKey, evidence: Evidence
) -> web.AppRunner:
    """Serve `answer` at the launch's address until the returned runner is cleaned up.

    `evidence` binds `key`, and is shown in the certificate.
    """
    app = web.Application(client_max_size=MAX_QUERY_BYTES)
    app.add_routes(_routes(launch.job, answer))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = attested_server_context(key, attested_certificate(key, evidence, datetime.now(UTC)))
    await web.TCPSite(runner, launch.listen_host, launch.listen_port, ssl_context=context).start()
    return runner


def _routes(job: str, answer: Answer) -> list[web.RouteDef]:
    async def evidence(request: web.Request) -> web.Response:
        try:
            demand = EvidenceDemand.model_validate_json(await request.read())
        except ValidationError:
            return _problem(400, "request-malformed")
        if demand.role is not Role.PREDICTOR:
            return _problem(404, "role-unknown")
        asked = EvidenceRequest(nonce=demand.nonce)
        return _reply(await answer(Mail(id=_MAIL_ID, kind=MailKind.EVIDENCE, evidence=asked)))

    async def query(request: web.Request) -> web.Response:
        try:
            message = SealedMessage.model_validate_json(await request.read())
        except ValidationError:
            return _problem(400, "request-malformed")
        return _reply(await answer(Mail(id=_MAIL_ID, kind=MailKind.QUERY, message=message)))

    return [
        web.post(paths.JOB_EVIDENCE.of(job), evidence),
        web.post(paths.JOB_QUERIES.of(job), query),
    ]


def _reply(reply: MailReply) -> web.Response:
    answer: BaseModel | None = reply.evidence or reply.message
    if answer is None:
        return _problem(409, reply.refusal or "answer-unexpected")
    return web.Response(body=answer.model_dump_json().encode(), content_type="application/json")


def _problem(status: int, code: str) -> web.Response:
    problem = Problem(title="refused", status=status, code=code)
    return web.Response(
        status=status, body=problem.model_dump_json().encode(), content_type=PROBLEM_CONTENT_TYPE
    )
