"""A trainer's connection to its job's parameter server, from verified evidence to mutual TLS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from runtime.attestation.errors import EvidenceRefused
from runtime.attestation.evidence import BOOT_NONCE, attest
from runtime.attestation.platform import Platform
from runtime.attestation.verify import Expected, verify
from runtime.channels.enrolment import (
    MAX_ENROLMENT_BYTES,
    Challenge,
    EnrolmentRequest,
    EnrolmentResponse,
    Ticket,
    load_certificate,
)
from runtime.channels.identity import like_ourselves
from runtime.channels.job_ca import certificate_digest, public_key_der
from runtime.channels.tls import client_context
from runtime.errors import PeerRefused
from runtime.wire.attestation import Claims, Role
from runtime.wire.enclave_api import Progress, Ready
from runtime.wire.encoding import WireModel, sha256_hex
from runtime.wire.jobs import JobState
from runtime.wire.launch import LaunchSpec

__all__ = ["BOOT_NONCE", "Membership", "join"]

_Message = TypeVar("_Message", bound=WireModel)
MAX_TICKET_BYTES = 128 * 2**20
"""A job spec holds one digest a chunk, so a ticket can be large."""


@dataclass(frozen=True)
class Membership:
    """A trainer's place in a job: a session over mutual TLS, and the ticket it gave."""

    session: aiohttp.ClientSession
    url: str
    ticket: Ticket

    async def advance(self, state: JobState) -> None:
        """As the leading trainer: tell the parameter server how far the public schedule is.

        Raises:
            PeerRefused: it does not take that from us.
        """
        body = Progress(state=state).model_dump_json()
        async with self.session.post(f"{self.url}/v1/state", data=body) as response:
            if response.status != 204:
                raise PeerRefused("state-refused", f"the parameter server answered {response.status}")


@asynccontextmanager
async def join(peer: Ready, launch: LaunchSpec, platform: Platform) -> AsyncIterator[Membership]:
    """Verify the parameter server, enrol with it, and fetch the ticket.

    Raises:
        PeerRefused: the evidence does not hold, or the server refused us.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = public_key_der(key.public_key())
    certificate_authority = _verify_peer(peer, launch, platform, public_key)
    url = f"https://{peer.address}"
    certificate = await _enrol(url, certificate_authority, public_key, launch, platform)
    context = client_context(certificate_authority, key, certificate)
    connector = aiohttp.TCPConnector(ssl=context, limit=8)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        async with session.get(f"{url}/v1/ticket") as response:
            ticket = await _read(response, Ticket, MAX_TICKET_BYTES)
        yield Membership(session, url, ticket)


def _verify_peer(peer: Ready, launch: LaunchSpec, platform: Platform, public_key: bytes) -> x509.Certificate:
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
    return load_certificate(peer.tls_ca)


async def _enrol(
    url: str,
    certificate_authority: x509.Certificate,
    public_key: bytes,
    launch: LaunchSpec,
    platform: Platform,
) -> x509.Certificate:
    connector = aiohttp.TCPConnector(ssl=client_context(certificate_authority))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.post(f"{url}/v1/enrol/challenge") as response:
            challenge = await _read(response, Challenge, MAX_ENROLMENT_BYTES)
        evidence = attest(platform, _claims(launch, public_key, challenge.nonce))
        request = EnrolmentRequest(index=launch.index, evidence=evidence, public_key=public_key)
        async with session.post(f"{url}/v1/enrol", data=request.model_dump_json()) as response:
            enrolled = await _read(response, EnrolmentResponse, MAX_ENROLMENT_BYTES)
    return load_certificate(enrolled.certificate)


def _claims(launch: LaunchSpec, public_key: bytes, nonce: bytes) -> Claims:
    return Claims(
        role=Role.TRAINER, job=launch.job, tls_public_key_sha256=sha256_hex(public_key), nonce=nonce
    )


async def _read(response: aiohttp.ClientResponse, model: type[_Message], limit: int) -> _Message:
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
