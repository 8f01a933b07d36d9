"""RA-TLS between real servers and clients: the evidence decides, and before it nothing is said."""

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron import attested_connector, attested_context
from chiron.client.errors import PeerNotAttested
from chiron.runtime.attestation.platform import BOOT_NONCE, attest
from chiron.runtime.attestation.ra_tls import (
    OID,
    evidence_extension,
    evidence_in,
    key_digest,
    verify_certificate,
)
from chiron.runtime.channels.direct import attested_certificate, attested_server_context
from chiron.runtime.channels.job_ca import JobCa
from chiron.runtime.channels.tls import server_context
from chiron.runtime.errors import EvidenceMissing
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.p256 import generate_key, public_key_der
from tests.support.certificates import certificate_for
from tests.support.server_door import policy
from tests.support.specs import JOB, OTHER_JOB
from tests.support.tee import OTHER_IMAGE, QuotingServices

NOW = datetime.now(UTC)


def new_key() -> ec.EllipticCurvePrivateKey:
    return generate_key()


def evidence_for(quoting: QuotingServices, key: ec.EllipticCurvePrivateKey, **changes: Any) -> Evidence:
    """A predictor's evidence that binds this TLS key."""
    honest = {
        "role": Role.PREDICTOR,
        "job": JOB,
        "hpke_public_key": bytes(PUBLIC_KEY_BYTES),
        "tls_public_key_sha256": sha256_hex(public_key_der(key.public_key())),
        "nonce": BOOT_NONCE,
    }
    return attest(quoting.platform(), Claims.model_validate(honest | changes))


@dataclass
class Endpoint:
    """A TLS server that notes every byte of the application that it got."""

    port: int
    heard: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@asynccontextmanager
async def endpoint(context: ssl.SSLContext) -> AsyncIterator[Endpoint]:
    opened = Endpoint(0)

    async def hear(request: web.Request) -> web.Response:
        opened.heard.append(await request.read())
        return web.Response(text="heard")

    app = web.Application()
    app.add_routes([web.post("/", hear), web.get("/", hear)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    opened.port = runner.addresses[0][1]
    try:
        yield opened
    finally:
        await runner.cleanup()


def serving(key: ec.EllipticCurvePrivateKey, evidence: Evidence) -> ssl.SSLContext:
    return attested_server_context(key, attested_certificate(key, evidence, NOW))


async def _post(to: Endpoint, quoting: QuotingServices, **options: Any) -> str:
    chosen: dict[str, Any] = {"policy": policy(quoting), "role": Role.PREDICTOR, "job": JOB} | options
    async with (
        aiohttp.ClientSession(connector=attested_connector(**chosen)) as session,
        session.post(to.url, data=b"a secret") as response,
    ):
        return await response.text()


async def _refusal(to: Endpoint, quoting: QuotingServices, **options: Any) -> PeerNotAttested:
    with pytest.raises(aiohttp.ClientConnectorCertificateError) as refused:
        await _post(to, quoting, **options)
    assert to.heard == [], "nothing may be said to a peer that is not verified"
    error = refused.value.certificate_error
    assert isinstance(error, PeerNotAttested)
    return error


async def test_attested_predictor_is_spoken_to(quoting: QuotingServices) -> None:
    key = new_key()
    async with endpoint(serving(key, evidence_for(quoting, key))) as to:
        assert await _post(to, quoting) == "heard"
        assert to.heard == [b"a secret"]


async def test_parameter_servers_certificate_carries_its_evidence_too(quoting: QuotingServices) -> None:
    """Under the job's CA: for trainers as before, for data owners by its evidence."""
    key, ca = new_key(), JobCa(JOB, NOW)
    evidence = evidence_for(
        quoting, key, role=Role.PARAMETER_SERVER, tls_ca_sha256=sha256_hex(ca.certificate_der)
    )
    certificate = ca.issue_server(key.public_key(), "127.0.0.1", evidence)
    async with endpoint(server_context(key, certificate, ca.certificate)) as to:
        assert await _post(to, quoting, role=Role.PARAMETER_SERVER) == "heard"
        assert (await _refusal_after(to, quoting)).code == "evidence-role-and-job"


async def _refusal_after(to: Endpoint, quoting: QuotingServices) -> PeerNotAttested:
    to.heard.clear()
    return await _refusal(to, quoting)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"job": OTHER_JOB}, "evidence-role-and-job"),
        ({"nonce": b"\x01" * 32}, "evidence-nonce"),
        ({"tls_public_key_sha256": "0" * 64}, "evidence-key-binding"),
        ({"tls_public_key_sha256": None}, "evidence-key-binding"),
    ],
)
async def test_wrong_claims_end_the_handshake(
    quoting: QuotingServices, changes: dict[str, Any], code: str
) -> None:
    key = new_key()
    async with endpoint(serving(key, evidence_for(quoting, key, **changes))) as to:
        error = await _refusal(to, quoting)
    assert error.code == code
    assert error.steps[-1].passed is False


async def test_predictor_of_another_owners_model_is_told_nothing(quoting: QuotingServices) -> None:
    key, owner = new_key(), "e" * 64
    async with endpoint(serving(key, evidence_for(quoting, key, owner_key_sha256=owner))) as to:
        refused = await _refusal(to, quoting, owner_key_sha256="d" * 64)
        assert (refused.code, "another owner" in str(refused)) == ("evidence-key-binding", True)
        assert await _post(to, quoting, owner_key_sha256=owner) == "heard"


async def test_locked_predictor_is_no_owners(quoting: QuotingServices) -> None:
    key = new_key()
    async with endpoint(serving(key, evidence_for(quoting, key))) as to:
        assert (await _refusal(to, quoting, owner_key_sha256="d" * 64)).code == "evidence-key-binding"


async def test_another_measurement_ends_the_handshake(quoting: QuotingServices) -> None:
    key = new_key()
    async with endpoint(serving(key, evidence_for(quoting, key))) as to:
        error = await _refusal(to, quoting, policy=policy(quoting, OTHER_IMAGE))
    assert error.code == "evidence-measurement"


async def test_software_tee_is_refused_where_its_root_was_not_given(quoting: QuotingServices) -> None:
    key = new_key()
    strict = policy(quoting).model_copy(update={"software_root": None})
    async with endpoint(serving(key, evidence_for(quoting, key))) as to:
        error = await _refusal(to, quoting, policy=strict)
    assert error.code == "evidence-certificate-chain"
    assert "development TEE" in str(error)


async def test_evidence_of_an_honest_enclave_in_a_thiefs_certificate_is_refused(
    quoting: QuotingServices,
) -> None:
    """The host copies the extension out of an enclave's certificate into one for its own key."""
    honest, thief = new_key(), new_key()
    async with endpoint(serving(thief, evidence_for(quoting, honest))) as to:
        assert (await _refusal(to, quoting)).code == "evidence-key-binding"


async def test_expired_evidence_is_refused(quoting: QuotingServices) -> None:
    key = new_key()
    async with endpoint(serving(key, evidence_for(quoting, key))) as to:
        context = attested_context(
            policy(quoting), Role.PREDICTOR, JOB, clock=lambda: datetime(2099, 1, 1, tzinfo=UTC)
        )
        with pytest.raises(PeerNotAttested):
            await asyncio.open_connection("127.0.0.1", to.port, ssl=context)


def _plain_certificate(key: ec.EllipticCurvePrivateKey, extension: bytes | None = None) -> x509.Certificate:
    valid = NOW, NOW.replace(year=NOW.year + 1)
    if extension is None:
        return certificate_for(key.public_key(), signer=key, valid=valid)
    evidence = x509.Extension(OID, False, x509.UnrecognizedExtension(OID, extension))
    return certificate_for(key.public_key(), signer=key, valid=valid, extensions=[evidence])


@pytest.mark.parametrize(
    "extension",
    [
        None,
        b"",
        b"garbage",
        asn1.encode_der("garbage"),
        asn1.encode_der("[]"),
        asn1.encode_der('["application/vnd.chiron.evidence+json","",4]'),
        asn1.encode_der('["application/vnd.chiron.evidence+json","e30",4]'),
        asn1.encode_der('["application/vnd.chiron.evidence+json",5,4]'),
        asn1.encode_der('["application/eat+cwt","e30",4]'),
        asn1.encode_der("[" * 100_000),
    ],
)
async def test_certificate_without_usable_evidence_ends_the_handshake(
    quoting: QuotingServices, extension: bytes | None
) -> None:
    key = new_key()
    context = attested_server_context(key, _plain_certificate(key, extension))
    async with endpoint(context) as to:
        error = await _refusal(to, quoting)
    assert error.code == "evidence-missing"
    assert error.steps == ()


async def test_tls_1_2_is_not_spoken(quoting: QuotingServices) -> None:
    key = new_key()
    context = serving(key, evidence_for(quoting, key))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with endpoint(context) as to:
        with pytest.raises(aiohttp.ClientConnectorError):
            await _post(to, quoting)


class _BlockingPeer:
    """A TLS server in a thread that accepts one connection and notes what it hears."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        try:
            with self._context.wrap_socket(connection, server_side=True) as peer:
                self.heard = peer.recv(1000)
                peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except OSError:
            pass

    def join(self) -> bytes:
        self._thread.join(10)
        self._listener.close()
        return self.heard


class TestBlockingSockets:
    """The same context with http.client and plain sockets."""

    def test_http_client_speaks_to_an_attested_enclave(self, quoting: QuotingServices) -> None:
        key = new_key()
        peer = _BlockingPeer(serving(key, evidence_for(quoting, key)))
        context = attested_context(policy(quoting), Role.PREDICTOR, JOB)
        connection = http.client.HTTPSConnection("127.0.0.1", peer.port, context=context, timeout=10)
        connection.request("POST", "/", body=b"a secret")
        assert connection.getresponse().status == 204
        connection.close()
        assert b"POST" in peer.join()

    def test_http_client_says_nothing_to_another(self, quoting: QuotingServices) -> None:
        key = new_key()
        peer = _BlockingPeer(attested_server_context(key, _plain_certificate(key)))
        context = attested_context(policy(quoting), Role.PREDICTOR, JOB)
        connection = http.client.HTTPSConnection("127.0.0.1", peer.port, context=context, timeout=10)
        with pytest.raises(PeerNotAttested):
            connection.request("POST", "/", body=b"a secret")
        connection.close()
        assert peer.join() == b""

    @pytest.mark.parametrize(
        "speak",
        [
            lambda s: s.send(b"a secret"),
            lambda s: s.sendall(b"a secret"),
            lambda s: s.write(b"a secret"),
            lambda s: s.recv(1),
            lambda s: s.recv_into(bytearray(1)),
            lambda s: s.read(1),
        ],
    )
    def test_socket_that_skips_the_handshake_can_neither_speak_nor_listen(
        self, quoting: QuotingServices, speak: Callable[[ssl.SSLSocket], Any]
    ) -> None:
        """OpenSSL would shake hands by itself at the first write, and nobody would have looked."""
        key = new_key()
        peer = _BlockingPeer(attested_server_context(key, _plain_certificate(key)))
        context = attested_context(policy(quoting), Role.PREDICTOR, JOB)
        plain = socket.create_connection(("127.0.0.1", peer.port), timeout=10)
        wrapped = context.wrap_socket(plain, do_handshake_on_connect=False)
        with pytest.raises(PeerNotAttested):
            speak(wrapped)
        wrapped.close()
        assert peer.join() == b""


def test_extension_is_the_conceptual_message_wrapper_in_its_json_form(quoting: QuotingServices) -> None:
    key = new_key()
    evidence = evidence_for(quoting, key)
    extension = evidence_extension(evidence)
    assert extension.oid.dotted_string == "2.23.133.5.4.9"
    assert extension.value[0] == 0x0C, "UTF8String"
    record = asn1.decode_der(str, extension.value)
    assert record.startswith('["application/vnd.chiron.evidence+json","')
    assert record.endswith('",4]')
    assert evidence_in(attested_certificate(key, evidence, NOW)) == evidence


def test_key_digest_is_of_the_subject_public_key_info() -> None:
    key = new_key()
    assert key_digest(_plain_certificate(key)) == sha256_hex(public_key_der(key.public_key()))


@settings(max_examples=100, deadline=None)
@given(der=st.binary(max_size=500))
def test_arbitrary_bytes_are_no_certificate_with_evidence(quoting: QuotingServices, der: bytes) -> None:
    with pytest.raises(EvidenceMissing):
        verify_certificate(der, policy(quoting), Role.PREDICTOR, JOB, NOW)


@settings(max_examples=100, deadline=None)
@given(extension=st.binary(max_size=200) | st.text(max_size=200).map(asn1.encode_der))
def test_arbitrary_extensions_hold_no_evidence(extension: bytes) -> None:
    with pytest.raises(EvidenceMissing):
        evidence_in(_plain_certificate(KEY, extension))


KEY = new_key()


async def test_verification_script_verifies_the_endpoint(quoting: QuotingServices, tmp_path: Path) -> None:
    import sys

    key = new_key()
    (tmp_path / "root.pem").write_bytes(quoting.tee.root_pem)
    script = Path(__file__).parents[2] / "scripts" / "verify_attestation.py"
    accepted = policy(quoting)
    arguments = ["--role", "predictor", "--trust-software-root", str(tmp_path / "root.pem")]
    arguments += ["--mrenclave", next(iter(accepted.measurements))]

    async def run(port: int, job: str) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), "--tls", f"127.0.0.1:{port}", "--job", job, *arguments
        )
        return await process.wait()

    async with endpoint(serving(key, evidence_for(quoting, key))) as to:
        assert await run(to.port, JOB) == 0
        assert await run(to.port, OTHER_JOB) == 10 + 14
        assert to.heard == []


def test_certificate_is_der_of_a_sane_size(quoting: QuotingServices) -> None:
    """OpenSSL refuses certificate chains over 100 kB by default."""
    key = new_key()
    certificate = attested_certificate(key, evidence_for(quoting, key), NOW)
    assert len(certificate.public_bytes(Encoding.DER)) < 60_000
