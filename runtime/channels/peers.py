"""What an enclave demands of its peers, and how it asks the parameter server to be taken for one.

All enclaves of a job run the same code. So each knows by its own measurement what the others must be.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

import aiohttp
import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from chiron.runtime.attestation.platform import BOOT_NONCE, Platform, attest
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence, verify
from chiron.runtime.channels.enrolment import (
    MAX_ENROLMENT_BYTES,
    Challenge,
    EnrolmentRequest,
    load_certificate,
)
from chiron.runtime.channels.job_ca import SERVER_NAME
from chiron.runtime.channels.tls import client_context, named_connector, named_url
from chiron.runtime.errors import EvidenceRefused, PeerRefused
from chiron.wire import paths
from chiron.wire.attestation import AttestationPolicy, Claims, Collateral, Evidence, Role, TcbStatus
from chiron.wire.bounded import read_stream
from chiron.wire.enclave_api import Ready
from chiron.wire.encoding import WireModel, sha256_hex
from chiron.wire.errors import LimitExceeded
from chiron.wire.launch import LaunchSpec, SgxPlatformSpec, SoftwarePlatformSpec
from chiron.wire.retrying import Backoff

_Message = TypeVar("_Message", bound=WireModel)
LONG_COMING_S = 20
"""The gateway was asked more than once, and said that it is not ready yet."""
Find: TypeAlias = Callable[[], Awaitable[Ready]]
"""Asks the gateway where the job's parameter server is now."""


def own_measurement(own: Evidence) -> str:
    """MRENCLAVE in hex, from a quote that our own platform made over our own claims."""
    report = dcap_qvl.parse_quote(own.quote).report
    return bytes(report.mr_enclave).hex()


def own_signer(own: Evidence) -> str:
    """MRSIGNER in hex, from the same."""
    report = dcap_qvl.parse_quote(own.quote).report
    return bytes(report.mr_signer).hex()


def like_ourselves(own: Evidence, platform: SoftwarePlatformSpec | SgxPlatformSpec) -> AttestationPolicy:
    """A policy that accepts only our own code and signer, under the root that our own platform stands on.

    By this a trainer or shard knows the parameter server before it has heard of the owner's policy. Of patch
    levels it takes any but revoked: the owner judges them (`Server.check_accepted`).
    """
    root = _software_root(own.collateral) if platform.kind == "software" else None
    return AttestationPolicy(
        software_root=root,
        measurements=frozenset({own_measurement(own)}),
        signers=frozenset({own_signer(own)}),
        accepted_tcb=frozenset(TcbStatus) - {TcbStatus.REVOKED},
    )


def narrowed(owner: AttestationPolicy, own: Evidence) -> AttestationPolicy:
    """The owner's policy, narrowed to our own measurement: what every peer of a job must satisfy."""
    return owner.model_copy(update={"measurements": frozenset({own_measurement(own)})})


def clock_from(issued_at: int) -> Callable[[], datetime]:
    """A clock for verifying in the owner's name: the host's, but never before the owner's grant was given."""
    floor = datetime.fromtimestamp(issued_at, UTC)
    return lambda: max(floor, datetime.now(UTC))


@dataclass(frozen=True)
class Server:
    """A parameter server of our own code and job. Whether the owner accepts its machine is another question.

    It is asked once the server has told us the owner's policy, and before anything else that it told us is
    used: until then we have sent it public facts only. A server that lies about the policy gains nothing by
    it. It was never given the owner's grant, so it has none of the owner's data for us to work on, and what
    we sealed for that owner does not open for its grant.
    """

    authority: x509.Certificate
    """The job CA's certificate."""
    address: str
    evidence: Evidence
    _own: Evidence

    def check_accepted(self, owner: AttestationPolicy) -> None:
        """Check by the owner's policy, narrowed to our own measurement.

        Raises:
            PeerRefused: the owner would not have accepted it.
        """
        _verified(self.evidence, narrowed(owner, self._own), self._own.claims.job)


def verify_server(
    peer: Ready, launch: LaunchSpec, platform: Platform, public_key: bytes, hpke_key: bytes | None = None
) -> Server:
    """Verify the parameter server that the gateway names, for its code and job.

    The keys are ours (TLS, DER; a shard's for HPKE): our own evidence tells which measurement the server must
    have.

    Raises:
        PeerRefused: it is not one of our measurement and job.
    """
    if peer.evidence is None or peer.tls_ca is None or peer.address is None:
        raise PeerRefused("peer-incomplete", "the parameter server's announcement lacks evidence")
    own = attest(platform, _claims(launch, public_key, BOOT_NONCE, hpke_key))
    verified = _verified(peer.evidence, like_ourselves(own, launch.platform), launch.job)
    if sha256_hex(peer.tls_ca) != verified.claims.tls_ca_sha256:
        raise PeerRefused("peer-ca-mismatch", "the job CA is not the one in the evidence")
    return Server(load_certificate(peer.tls_ca), peer.address, peer.evidence, own)


def _verified(evidence: Evidence, policy: AttestationPolicy, job: str) -> VerifiedEvidence:
    expected = Expected(role=Role.PARAMETER_SERVER, job=job, nonce=BOOT_NONCE)
    try:
        return verify(evidence, policy, expected, datetime.now(UTC))
    except EvidenceRefused as error:
        raise PeerRefused(error.code, "the parameter server's evidence does not hold") from error


async def found(find: Find, backoff: Backoff) -> Ready:
    """Where the job's parameter server is; `backoff` is of whoever looks for it.

    One that was started again may wait for the data's owner, for days. The gateway says meanwhile that it is
    there, so that is no absence.
    """
    began = time.monotonic()
    peer = await find()
    if time.monotonic() - began > LONG_COMING_S:
        backoff.reset()
    return peer


def anonymous_session(authority: x509.Certificate, address: str) -> aiohttp.ClientSession:
    """A session with the parameter server at `address` without a certificate of ours."""
    connector = named_connector(client_context(authority), address)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    return aiohttp.ClientSession(named_url(SERVER_NAME, address), connector=connector, timeout=timeout)


async def request_enrolment(
    session: aiohttp.ClientSession,
    path: str,
    answer: type[_Message],
    launch: LaunchSpec,
    platform: Platform,
    public_key: bytes,
    hpke_key: bytes | None = None,
) -> _Message:
    """Enrol at `path` with fresh evidence that binds our keys; what the parameter server answers.

    Raises:
        PeerRefused: it refused us.
        aiohttp.ClientError, OSError: it is not there.
    """
    async with session.post(paths.ENROL_CHALLENGE) as response:
        challenge = await read_message(response, Challenge, MAX_ENROLMENT_BYTES)
    evidence = attest(platform, _claims(launch, public_key, challenge.nonce, hpke_key))
    request = EnrolmentRequest(index=launch.index, evidence=evidence, public_key=public_key)
    async with session.post(path, data=request.model_dump_json()) as response:
        return await read_message(response, answer, MAX_ENROLMENT_BYTES)


async def read_message(response: aiohttp.ClientResponse, model: type[_Message], limit: int) -> _Message:
    """Read one message of the parameter server, of at most `limit` bytes.

    Raises:
        PeerRefused: it answered a problem, too much, or something malformed.
    """
    if response.status != 200:
        raise PeerRefused("enrolment-refused", f"the parameter server answered {response.status}")
    try:
        return model.model_validate_json(await read_stream(response.content.iter_any(), limit))
    except LimitExceeded as error:
        raise PeerRefused("enrolment-refused", "the parameter server answered too much") from error
    except ValidationError as error:
        raise PeerRefused("peer-message-invalid", "the parameter server's message is malformed") from error


def _claims(launch: LaunchSpec, public_key: bytes, nonce: bytes, hpke_key: bytes | None) -> Claims:
    return Claims(
        role=launch.role,
        job=launch.job,
        hpke_public_key=hpke_key,
        tls_public_key_sha256=sha256_hex(public_key),
        nonce=nonce,
    )


def _software_root(collateral: Collateral) -> bytes:
    chain = x509.load_pem_x509_certificates(collateral.tcb_info_issuer_chain.encode())
    return chain[-1].public_bytes(Encoding.DER)
