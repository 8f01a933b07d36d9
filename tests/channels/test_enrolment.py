"""Enrolment and mutual TLS between a real server and real clients, honest and not."""

import ssl
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from chiron.runtime.attestation.platform import Platform, attest
from chiron.runtime.channels.enrolment import Challenge, EnrolmentRequest, EnrolmentResponse, load_certificate
from chiron.runtime.channels.job_ca import JobCa
from chiron.runtime.channels.membership import join
from chiron.runtime.channels.peers import clock_from
from chiron.runtime.channels.tls import client_context, named_connector
from chiron.runtime.errors import EnrolmentRefused, PeerRefused
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.p256 import generate_key, public_key_der
from tests.support.server_door import DATASET_KEY, Door, open_door
from tests.support.specs import JOB, OTHER_JOB
from tests.support.tee import OTHER_IMAGE, QuotingServices


class Applicant:
    """Someone who asks for a certificate, step by step, so that each step can go wrong."""

    def __init__(self, door: Door, platform: Platform | None = None) -> None:
        self.door = door
        self.platform = platform or door.platform
        self.key = generate_key()
        self.public_key = public_key_der(self.key.public_key())

    def claims(self, nonce: bytes, **changes: Any) -> Claims:
        honest = {
            "role": Role.TRAINER,
            "job": JOB,
            "tls_public_key_sha256": sha256_hex(self.public_key),
            "nonce": nonce,
        }
        return Claims.model_validate(honest | changes)

    async def challenge(self) -> bytes:
        raw = (await self.call("POST", "/v1/enrol/challenge"))[1]
        return Challenge.model_validate_json(raw).nonce

    async def apply(
        self, evidence: Evidence, index: int = 0, public_key: bytes | None = None
    ) -> tuple[int, bytes]:
        request = EnrolmentRequest(index=index, evidence=evidence, public_key=public_key or self.public_key)
        return await self.call("POST", "/v1/enrol", data=request.model_dump_json())

    async def enrol(self, index: int = 0) -> x509.Certificate:
        evidence = attest(self.platform, self.claims(await self.challenge()))
        status, raw = await self.apply(evidence, index)
        assert status == 200, raw
        return load_certificate(EnrolmentResponse.model_validate_json(raw).certificate)

    async def refusal(self, evidence: Evidence, index: int = 0, public_key: bytes | None = None) -> str:
        status, raw = await self.apply(evidence, index, public_key)
        assert status == 403, raw
        return code_of(raw)

    async def who(self, certificate: x509.Certificate | None) -> tuple[int, bytes]:
        context = client_context(self.door.ca.certificate, self.key, certificate)
        return await self.call("GET", "/who", context=context)

    async def call(
        self, method: str, path: str, *, data: str | None = None, context: ssl.SSLContext | None = None
    ) -> tuple[int, bytes]:
        context = context or client_context(self.door.ca.certificate)
        async with (
            aiohttp.ClientSession(connector=named_connector(context, self.door.address)) as session,
            session.request(method, self.door.url + path, data=data) as response,
        ):
            return response.status, await response.read()


def code_of(raw: bytes) -> str:
    from chiron.wire.codes import Problem

    return Problem.model_validate_json(raw).code


async def test_trainer_joins_and_gets_its_ticket_over_mutual_tls(door: Door) -> None:
    async with join(door.ready, door.launch(index=1), door.platform) as membership:
        assert membership.ticket.dataset_key == DATASET_KEY
        assert membership.ticket.spec == door.spec
        async with membership.session.get(f"{membership.url}/who") as response:
            assert await response.text() == "1"


async def test_two_trainers_are_told_apart_by_their_certificates(door: Door) -> None:
    one, two = Applicant(door), Applicant(door)
    first, second = await one.enrol(0), await two.enrol(1)
    assert (await one.who(first))[1] == b"0"
    assert (await two.who(second))[1] == b"1"


async def test_connection_is_tls_1_3(door: Door) -> None:
    old = client_context(door.ca.certificate)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientConnectorError):
        await Applicant(door).call("GET", "/who", context=old)


async def test_without_a_client_certificate_nothing_but_enrolment_is_served(door: Door) -> None:
    applicant = Applicant(door)
    for path in ("/v1/ticket", "/who"):
        status, raw = await applicant.call("GET", path)
        assert (status, code_of(raw)) == (403, "client-certificate-required")
        assert DATASET_KEY not in raw


async def test_certificate_of_another_ca_ends_the_connection(door: Door) -> None:
    applicant = Applicant(door)
    rogue = JobCa(JOB, datetime.now(UTC))
    certificate = rogue.issue_client("trainer-0", applicant.key.public_key())
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await applicant.who(certificate)


async def test_client_does_not_speak_to_a_server_under_another_ca(door: Door) -> None:
    rogue = JobCa(JOB, datetime.now(UTC))
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await Applicant(door).call("GET", "/who", context=client_context(rogue.certificate))


async def test_trainer_certificate_cannot_serve(door: Door) -> None:
    """A trainer that listens with its client certificate does not pass for the parameter server."""
    import asyncio

    applicant = Applicant(door)
    certificate = await applicant.enrol()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    from chiron.runtime.channels.tls import load_key

    load_key(context, applicant.key, certificate)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(door.ca.certificate), server_hostname="trainer-0"
        )
    server.close()


async def test_replaced_certificate_is_refused_and_the_new_holder_served(door: Door) -> None:
    former, newer = Applicant(door), Applicant(door)
    old = await former.enrol(0)
    assert (await former.who(old))[0] == 200
    new = await newer.enrol(0)
    status, raw = await former.who(old)
    assert (status, code_of(raw)) == (403, "client-certificate-replaced")
    assert (await newer.who(new))[1] == b"0"


async def test_evidence_over_a_nonce_that_was_never_given_is_refused(door: Door) -> None:
    applicant = Applicant(door)
    await applicant.challenge()
    evidence = attest(door.platform, applicant.claims(bytes(32)))
    assert await applicant.refusal(evidence) == "enrolment-nonce"


async def test_nonce_is_good_for_one_enrolment(door: Door) -> None:
    applicant = Applicant(door)
    evidence = attest(door.platform, applicant.claims(await applicant.challenge()))
    assert (await applicant.apply(evidence))[0] == 200
    assert await applicant.refusal(evidence) == "enrolment-nonce"


async def test_refused_evidence_costs_no_memory_and_leaves_its_nonce(door: Door) -> None:
    applicant = Applicant(door)
    nonce = await applicant.challenge()
    wrong = attest(door.platform, applicant.claims(nonce, job=OTHER_JOB))
    assert await applicant.refusal(wrong) == "evidence-role-and-job"
    honest = attest(door.platform, applicant.claims(nonce))
    assert (await applicant.apply(honest))[0] == 200


async def test_evidence_of_another_job_is_refused(door: Door) -> None:
    applicant = Applicant(door)
    evidence = attest(door.platform, applicant.claims(await applicant.challenge(), job=OTHER_JOB))
    assert await applicant.refusal(evidence) == "evidence-role-and-job"


async def test_evidence_of_another_role_is_refused(door: Door) -> None:
    applicant = Applicant(door)
    changes = {
        "role": Role.PARAMETER_SERVER,
        "tls_public_key_sha256": None,
        "hpke_public_key": bytes(PUBLIC_KEY_BYTES),
        "tls_ca_sha256": "0" * 64,
    }
    evidence = attest(door.platform, applicant.claims(await applicant.challenge(), **changes))
    assert await applicant.refusal(evidence) == "evidence-role-and-job"


async def test_evidence_of_another_measurement_is_refused(door: Door, quoting: QuotingServices) -> None:
    applicant = Applicant(door, quoting.platform(OTHER_IMAGE))
    evidence = attest(applicant.platform, applicant.claims(await applicant.challenge()))
    assert await applicant.refusal(evidence) == "evidence-measurement"


async def test_evidence_of_another_tee_is_refused(door: Door, tmp_path: Any) -> None:
    stranger = QuotingServices(tmp_path)
    applicant = Applicant(door, stranger.platform())
    evidence = attest(applicant.platform, applicant.claims(await applicant.challenge()))
    stranger.close()
    assert await applicant.refusal(evidence) == "evidence-certificate-chain"


async def test_altered_quote_is_refused_for_its_signature(door: Door) -> None:
    applicant = Applicant(door)
    evidence = attest(door.platform, applicant.claims(await applicant.challenge()))
    quote = bytearray(evidence.quote)
    quote[48 + 64] ^= 1
    altered = evidence.model_copy(update={"quote": bytes(quote)})
    assert await applicant.refusal(altered) == "evidence-signature"


async def test_altered_claims_are_refused(door: Door) -> None:
    applicant = Applicant(door)
    evidence = attest(door.platform, applicant.claims(await applicant.challenge()))
    claims = evidence.claims.model_copy(update={"tls_public_key_sha256": "1" * 64})
    assert await applicant.refusal(evidence.model_copy(update={"claims": claims})) == "evidence-claims"


async def test_key_that_the_evidence_does_not_bind_gets_no_certificate(door: Door) -> None:
    applicant, thief = Applicant(door), Applicant(door)
    evidence = attest(door.platform, applicant.claims(await applicant.challenge()))
    assert await applicant.refusal(evidence, public_key=thief.public_key) == "enrolment-key"


@pytest.mark.parametrize("kind", ["garbage", "ed25519", "p384"])
async def test_key_that_is_not_p256_gets_no_certificate(door: Door, kind: str) -> None:
    keys: dict[str, Any] = {
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "p384": ec.generate_private_key(ec.SECP384R1()),
    }
    der = b"garbage"
    if kind in keys:
        der = (
            keys[kind]
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    applicant = Applicant(door)
    claims = applicant.claims(await applicant.challenge(), tls_public_key_sha256=sha256_hex(der))
    evidence = attest(door.platform, claims)
    assert await applicant.refusal(evidence, public_key=der) == "enrolment-key"


async def test_index_that_the_job_has_not_is_refused(door: Door) -> None:
    applicant = Applicant(door)
    evidence = attest(door.platform, applicant.claims(await applicant.challenge()))
    assert await applicant.refusal(evidence, index=2) == "enrolment-index"


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"index": -1}', '{"index": 0, "evidence": 1}'])
async def test_malformed_enrolment_is_a_clear_problem(door: Door, body: str) -> None:
    status, raw = await Applicant(door).call("POST", "/v1/enrol", data=body)
    assert (status, code_of(raw)) == (403, "enrolment-malformed")


async def test_trainer_refuses_a_parameter_server_of_another_measurement(
    door: Door, quoting: QuotingServices
) -> None:
    with pytest.raises(PeerRefused) as refused:
        async with join(door.ready, door.launch(), quoting.platform(OTHER_IMAGE)):
            pytest.fail("it joined")
    assert refused.value.code == "evidence-measurement"


async def test_trainer_refuses_a_parameter_server_of_another_job(door: Door) -> None:
    with pytest.raises(PeerRefused) as refused:
        async with join(door.ready, door.launch(job=OTHER_JOB), door.platform):
            pytest.fail("it joined")
    assert refused.value.code == "evidence-role-and-job"


async def test_trainer_refuses_a_ca_that_the_evidence_does_not_bind(door: Door) -> None:
    """The host puts itself in the middle with a CA of its own."""
    rogue = JobCa(JOB, datetime.now(UTC))
    ready = door.ready.model_copy(update={"tls_ca": rogue.certificate_der})
    with pytest.raises(PeerRefused) as refused:
        async with join(ready, door.launch(), door.platform):
            pytest.fail("it joined")
    assert refused.value.code == "peer-ca-mismatch"


@pytest.mark.parametrize("missing", ["evidence", "tls_ca", "address"])
async def test_trainer_refuses_an_incomplete_announcement(door: Door, missing: str) -> None:
    with pytest.raises(PeerRefused) as refused:
        async with join(door.ready.model_copy(update={missing: None}), door.launch(), door.platform):
            pytest.fail("it joined")
    assert refused.value.code == "peer-incomplete"


async def test_trainer_refuses_the_address_of_another_jobs_server(quoting: QuotingServices) -> None:
    """Right evidence, wrong address: the other server holds no certificate under the evidence's CA."""
    async with open_door(quoting) as door, open_door(quoting) as other:
        ready = door.ready.model_copy(update={"address": other.ready.address})
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            async with join(ready, door.launch(), door.platform):
                pytest.fail("it joined")


def test_peer_certificate_that_is_none_is_refused() -> None:
    with pytest.raises(EnrolmentRefused):
        load_certificate(b"garbage")


async def test_host_cannot_set_the_clock_to_before_the_grant(quoting: QuotingServices) -> None:
    """Collateral that had expired when the owner granted is refused, whatever the host's clock says."""
    later = int(datetime.now(UTC).timestamp()) + 90 * 24 * 3600
    async with open_door(quoting, clock=clock_from(later)) as door:
        applicant = Applicant(door)
        evidence = attest(door.platform, applicant.claims(await applicant.challenge()))
        assert await applicant.refusal(evidence) == "evidence-revocation"


def test_clock_goes_on_from_the_hosts_where_that_is_later() -> None:
    before = datetime.now(UTC)
    assert clock_from(0)() >= before
    future = int(before.timestamp()) + 1000
    assert clock_from(future)() == datetime.fromtimestamp(future, UTC)
