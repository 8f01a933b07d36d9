"""The parameter-server role behind a scripted gateway: an owner can verify it by its certificate alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import attested_connector
from chiron.client.granting import seal_grant
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.channels.membership import join
from chiron.runtime.roles import parameter_server
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import EvidenceRequest, Mail, MailKind, MailReply, SealedMessage
from chiron.wire.grants import Grant
from chiron.wire.launch import GatewayChannel, LaunchSpec
from tests.support.lone_server import ScriptedGateway
from tests.support.server_door import DATASET_KEY, policy
from tests.support.specs import JOB, job_spec, launch_spec
from tests.support.tee import IMAGE, OTHER_IMAGE, QuotingServices

SPEC = job_spec()
NONCE = b"\x21" * 32
OWNER = PrivateKey.generate()
SIGNING_KEY = Ed25519PrivateKey.generate()


def launch(socket: Path, role: Role) -> LaunchSpec:
    return launch_spec(SPEC, role, GatewayChannel(socket=str(socket), token="t"))


@pytest.fixture
async def gateway(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[ScriptedGateway]:
    scripted = ScriptedGateway()
    app = web.Application(client_max_size=2**26)
    app.add_routes(scripted.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "g.sock")).start()
    started = launch(tmp_path / "g.sock", Role.PARAMETER_SERVER)
    role = asyncio.create_task(parameter_server.run(started, quoting.platform(IMAGE)))
    try:
        await _grant(scripted, quoting)
        yield scripted
    finally:
        role.cancel()
        await asyncio.gather(role, return_exceptions=True)
        await runner.cleanup()


async def _grant(gateway: ScriptedGateway, quoting: QuotingServices) -> None:
    """The owner's part: verify over a fresh nonce, and grant."""
    asked = EvidenceRequest(nonce=NONCE)
    evidence = (await gateway.ask(Mail(id="0" * 32, kind=MailKind.EVIDENCE, evidence=asked))).evidence
    assert evidence is not None
    now = datetime.now(UTC)
    verified = verify(evidence, policy(quoting), Expected(Role.PARAMETER_SERVER, JOB, NONCE), now)
    grant = Grant(
        job=JOB,
        dataset_key=DATASET_KEY,
        dataset_digest=SPEC.dataset.digest(),
        spec_digest=SPEC.digest(),
        attestation=policy(quoting),
        owner_public_key=OWNER.public_bytes,
        issued_at=int(now.timestamp()),
        expires_at=2**36,
        share=bytes(32),
        owner_signing_key=SIGNING_KEY.public_key().public_bytes_raw(),
    )
    message = SealedMessage(sealed=seal_grant(verified, grant, SIGNING_KEY))
    reply = await gateway.ask(Mail(id="1" * 32, kind=MailKind.GRANT, message=message))
    assert reply == MailReply()
    await asyncio.wait_for(asyncio.shield(gateway.ready), 30)


async def test_owner_can_verify_the_running_server_by_its_certificate(
    gateway: ScriptedGateway, quoting: QuotingServices
) -> None:
    ready = gateway.ready.result()
    connector = attested_connector(policy(quoting), Role.PARAMETER_SERVER, JOB)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"https://{ready.address}/v1/ticket") as response,
    ):
        assert response.status == 403
        assert (await response.json(content_type=None))["code"] == "client-certificate-required"
    refusing = attested_connector(policy(quoting, OTHER_IMAGE), Role.PARAMETER_SERVER, JOB)
    async with aiohttp.ClientSession(connector=refusing) as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://{ready.address}/v1/ticket")


async def test_trainer_of_the_same_code_joins_it_and_another_does_not(
    gateway: ScriptedGateway, quoting: QuotingServices, tmp_path: Path
) -> None:
    ready = gateway.ready.result()
    trainer = launch(tmp_path / "g.sock", Role.TRAINER)
    async with join(ready, trainer, quoting.platform(IMAGE)) as membership:
        assert membership.ticket.dataset_key == DATASET_KEY
    from chiron.runtime.errors import PeerRefused

    with pytest.raises(PeerRefused):
        async with join(ready, trainer, quoting.platform(OTHER_IMAGE)):
            pytest.fail("it joined")


async def test_dataset_key_is_nowhere_in_what_the_gateway_stores(gateway: ScriptedGateway) -> None:
    assert gateway.objects, "the grant is checkpointed"
    assert all(DATASET_KEY not in stored for stored in gateway.objects.values())
