"""The side of enrolment that asks: verify the parameter server, show it our evidence, get a certificate."""

from datetime import UTC, datetime
from typing import TypeVar

import aiohttp
from cryptography import x509
from pydantic import ValidationError

from chiron.runtime.attestation.platform import BOOT_NONCE, Platform, attest
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.channels.enrolment import (
    CHALLENGE_PATH,
    MAX_ENROLMENT_BYTES,
    Challenge,
    EnrolmentRequest,
    load_certificate,
)
from chiron.runtime.channels.identity import like_ourselves
from chiron.runtime.channels.job_ca import SERVER_NAME, certificate_digest
from chiron.runtime.channels.named import named_connector, named_url
from chiron.runtime.channels.tls import client_context
from chiron.runtime.errors import EvidenceRefused, PeerRefused
from chiron.wire.attestation import Claims, Role
from chiron.wire.enclave_api import Ready
from chiron.wire.encoding import WireModel, sha256_hex
from chiron.wire.launch import LaunchSpec

_Message = TypeVar("_Message", bound=WireModel)


def verify_server(
    peer: Ready, launch: LaunchSpec, platform: Platform, public_key: bytes
) -> tuple[x509.Certificate, str]:
    """The job CA's certificate and the address of the parameter server that the gateway names.

    `public_key` is ours, DER: our own evidence tells which measurement the server must have.

    Raises:
        PeerRefused: it is not one of our measurement and job.
    """
    if peer.evidence is None or peer.tls_ca is None or peer.address is None:
        raise PeerRefused("peer-incomplete", "the parameter server's announcement lacks evidence")
    own = attest(platform, _claims(launch, public_key, BOOT_NONCE))
    expected = Expected(role=Role.PARAMETER_SERVER, job=launch.job, nonce=BOOT_NONCE)
    try:
        verified = verify(peer.evidence, like_ourselves(own, launch.platform), expected, datetime.now(UTC))
    except EvidenceRefused as error:
        raise PeerRefused(error.code, "the parameter server's evidence does not hold") from error
    if certificate_digest(peer.tls_ca) != verified.claims.tls_ca_sha256:
        raise PeerRefused("peer-ca-mismatch", "the job CA is not the one in the evidence")
    return load_certificate(peer.tls_ca), peer.address


def stranger_session(authority: x509.Certificate, address: str) -> aiohttp.ClientSession:
    """A session with the parameter server at `address` without a certificate of ours."""
    connector = named_connector(client_context(authority), address)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    return aiohttp.ClientSession(named_url(SERVER_NAME, address), connector=connector, timeout=timeout)


async def apply(
    session: aiohttp.ClientSession,
    path: str,
    answer: type[_Message],
    launch: LaunchSpec,
    platform: Platform,
    public_key: bytes,
) -> _Message:
    """Enrol at `path` with fresh evidence that binds `public_key` (DER); what the parameter server answers.

    Raises:
        PeerRefused: it refused us.
        aiohttp.ClientError, OSError: it is not there.
    """
    async with session.post(CHALLENGE_PATH) as response:
        challenge = await read_message(response, Challenge, MAX_ENROLMENT_BYTES)
    evidence = attest(platform, _claims(launch, public_key, challenge.nonce))
    request = EnrolmentRequest(index=launch.index, evidence=evidence, public_key=public_key)
    async with session.post(path, data=request.model_dump_json()) as response:
        return await read_message(response, answer, MAX_ENROLMENT_BYTES)


async def read_message(response: aiohttp.ClientResponse, model: type[_Message], limit: int) -> _Message:
    """Read one bounded message of the parameter server.

    Raises:
        PeerRefused: it answered a problem, too much, or something malformed.
    """
    body = await response.content.read(limit + 1)
    while len(body) <= limit and not response.content.at_eof():
        body += await response.content.read(limit + 1 - len(body))
    if response.status != 200 or len(body) > limit:
        raise PeerRefused("enrolment-refused", f"the parameter server answered {response.status}")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise PeerRefused("peer-message-invalid", "the parameter server's message is malformed") from error


def _claims(launch: LaunchSpec, public_key: bytes, nonce: bytes) -> Claims:
    return Claims(role=launch.role, job=launch.job, tls_public_key_sha256=sha256_hex(public_key), nonce=nonce)
