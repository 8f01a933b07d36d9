"""A job that outlives its collateral or grant: whoever comes late meets evidence that holds, or nobody."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import attested_connector
from chiron.api.jobs.fleet import LaunchedEnclave
from chiron.api.jobs.mailbox import Mailbox
from chiron.client.granting import seal_grant
from chiron.runtime.attestation.validity import current_until
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.channels import renewal
from chiron.runtime.channels.job_ca import JobCa
from chiron.runtime.channels.membership import join
from chiron.runtime.errors import PeerRefused
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Ready
from chiron.wire.grants import Grant
from chiron.wire.launch import GatewayChannel
from chiron.wire.p256 import generate_key
from tests.support.lone_server import ScriptedGateway, started
from tests.support.server_door import DATASET_KEY, policy
from tests.support.specs import JOB, job_spec, launch_spec
from tests.support.tee import IMAGE, QuotingServices

SPEC = job_spec()
SIGNING_KEY = Ed25519PrivateKey.generate()
LIFE = timedelta(seconds=4)
TRAINER = launch_spec(SPEC, Role.TRAINER, GatewayChannel(token="t"))


@pytest.fixture
async def short_lived(tmp_path: Path) -> AsyncIterator[QuotingServices]:
    """A machine whose collateral is handed out a few seconds before its end."""
    quoting = QuotingServices(tmp_path)
    quoting.tee.life = LIFE
    yield quoting
    await asyncio.to_thread(quoting.close)


@asynccontextmanager
async def granted(
    quoting: QuotingServices, expires_at: int = 2**36
) -> AsyncIterator[tuple[ScriptedGateway, Ready]]:
    """A parameter server that has its grant, and where it said first that it is."""
    async with started(SPEC, quoting.platform(IMAGE)) as gateway:
        evidence, nonce = await gateway.evidence()
        now = datetime.now(UTC)
        verified = verify(evidence, policy(quoting), Expected(Role.PARAMETER_SERVER, JOB, nonce), now)
        grant = Grant(
            job=JOB,
            dataset_key=DATASET_KEY,
            dataset_digest=SPEC.dataset.digest(),
            spec_digest=SPEC.digest(),
            attestation=policy(quoting),
            owner_public_key=PrivateKey.generate().public_bytes,
            issued_at=int(now.timestamp()),
            expires_at=expires_at,
            share=bytes(32),
            owner_signing_key=SIGNING_KEY.public_key().public_bytes_raw(),
        )
        assert await gateway.grant(seal_grant(verified, grant, SIGNING_KEY)) is None
        yield gateway, await asyncio.wait_for(asyncio.shield(gateway.ready), 30)


async def outlived(ready: Ready) -> None:
    """Wait until what was shown first counts no more."""
    assert ready.evidence is not None
    left = current_until(ready.evidence.collateral) - datetime.now(UTC)
    await asyncio.sleep(left.total_seconds() + 0.2)


async def test_a_trainer_or_owner_who_comes_after_the_collaterals_end_meets_evidence_that_holds(
    short_lived: QuotingServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "SOONEST_S", 0.2)
    async with granted(short_lived) as (gateway, first):
        # A gateway that is away for a moment is told later.
        gateway.refuses_ready = 1
        platform = short_lived.platform(IMAGE)
        async with join(first, TRAINER, platform) as early:
            await outlived(first)
            with pytest.raises(PeerRefused):
                async with join(first, TRAINER, platform):
                    pytest.fail("expired evidence was believed")
            async with join(gateway.announced[-1], TRAINER, platform) as late:
                assert late.ticket == early.ticket
        assert gateway.refuses_ready == 0
        assert {(one.address, one.tls_ca) for one in gateway.announced} == {(first.address, first.tls_ca)}
        connector = attested_connector(policy(short_lived), Role.PARAMETER_SERVER, JOB)
        async with (
            aiohttp.ClientSession(connector=connector) as owner,
            owner.get(f"https://{first.address}/v1/ticket") as response,
        ):
            assert response.status == 403


async def test_a_job_ca_ends_when_its_grant_does(short_lived: QuotingServices) -> None:
    short_lived.tee.life = None
    for days in (1, 200):
        expires_at = int(datetime.now(UTC).timestamp()) + days * 86_400
        async with granted(short_lived, expires_at) as (_, ready):
            assert ready.tls_ca is not None
            ends = {x509.load_der_x509_certificate(ready.tls_ca).not_valid_after_utc}
            async with join(ready, TRAINER, short_lived.platform(IMAGE)) as member:
                ends.add(await _server_certificates_end(ready, member.context))
            assert {int(end.timestamp()) for end in ends} == {expires_at}


async def _server_certificates_end(ready: Ready, context: ssl.SSLContext) -> datetime:
    host, _, port = (ready.address or "").rpartition(":")
    _, writer = await asyncio.open_connection(
        host, int(port), ssl=context, server_hostname="parameter-server"
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def test_a_job_ca_whose_end_is_set_keeps_its_key() -> None:
    now = datetime.now(UTC)
    ca = JobCa(JOB, now)
    before = ca.certificate
    ca.last_until(now + timedelta(days=90))
    assert before.public_key() == ca.certificate.public_key()
    issued = ca.issue_client("trainer-0", generate_key().public_key())
    assert issued.not_valid_after_utc == ca.certificate.not_valid_after_utc


async def test_an_enclave_announces_newer_evidence_and_nothing_else_anew(
    short_lived: QuotingServices,
) -> None:
    async with granted(short_lived) as (_, first):
        enclave = _launched()
        enclave.announce(first)
        assert await enclave.address(0) == first
        assert first.evidence is not None
        newer = first.evidence.model_copy(update={"quote": b"newer"})
        enclave.announce(first.model_copy(update={"evidence": newer}))
        for refused in (
            Ready(),
            first.model_copy(update={"address": "127.0.0.1:1"}),
            first.model_copy(update={"tls_ca": b"another"}),
        ):
            enclave.announce(refused)
        assert await enclave.address(0) == first.model_copy(update={"evidence": newer})


def _launched() -> LaunchedEnclave:
    return LaunchedEnclave(
        launch_id="1",
        token_sha256="",
        role=Role.PARAMETER_SERVER,
        index=0,
        spec=SPEC,
        tenant="hospital",
        mailbox=Mailbox(1),
    )
