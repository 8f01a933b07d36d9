"""A trainer's connection to its job's parameter server, from verified evidence to mutual TLS."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

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
from runtime.channels.keep_alive import watched_socket
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


Find: TypeAlias = Callable[[], Awaitable[Ready]]
"""Asks the gateway where the job's parameter server is now."""
PATIENCE_S = 120.0
"""How long the parameter server may be away (a restart)."""
_PAUSE_S = 0.1
_KEPT_S = 3600.0


class Membership:
    """A trainer's place in a job: a session over mutual TLS, and the ticket it gave."""

    def __init__(
        self, launch: LaunchSpec, platform: Platform, find: Find | None, stack: AsyncExitStack
    ) -> None:
        self._launch = launch
        self._platform = platform
        self._find = find
        self._stack = stack
        self.session: aiohttp.ClientSession
        self.url = ""
        self.ticket: Ticket

    async def join(self, peer: Ready) -> None:
        """Verify the parameter server, enrol with it, and fetch the ticket.

        Raises:
            PeerRefused: the evidence does not hold, or the server refused us.
        """
        self.session, self.url = await self._connect(peer)
        self.ticket = await _fetch_ticket(self.session, self.url)

    async def reconnect(self) -> tuple[aiohttp.ClientSession, str]:
        """A session with the parameter server as it is now: the same, or its successor after a crash.

        A successor is verified and enrolled with like the first, and must hold the same grant: else a host
        could put a server with another owner's grant there, and have our changes merged for that owner.

        Raises:
            PeerRefused: it is not one of our measurement and job, or holds another grant.
            aiohttp.ClientError, OSError: it is not there yet.
        """
        if self._find is None:
            return self.session, self.url
        peer = await self._find()
        if _url(peer) != self.url:
            session, url = await self._connect(peer)
            if await _fetch_ticket(session, url) != self.ticket:
                raise PeerRefused(
                    "peer-ticket-differs", "the parameter server holds another grant than before"
                )
            self.session, self.url = session, url
        return self.session, self.url

    async def advance(self, state: JobState) -> None:
        """As the leading trainer: tell the parameter server how far the public schedule is.

        Raises:
            PeerRefused: it does not take that from us.
            aiohttp.ClientError, OSError: it stayed away for `PATIENCE_S`.
        """
        body = Progress(state=state).model_dump_json()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                async with self.session.post(f"{self.url}/v1/state", data=body) as response:
                    if response.status != 204:
                        raise PeerRefused("state-refused", f"the parameter server answered {response.status}")
                    return
            except (aiohttp.ClientError, OSError):
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_PAUSE_S)
            with suppress(aiohttp.ClientError, OSError):
                await self.reconnect()

    async def _connect(self, peer: Ready) -> tuple[aiohttp.ClientSession, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        public_key = public_key_der(key.public_key())
        authority = _verify_peer(peer, self._launch, self._platform, public_key)
        url = _url(peer)
        certificate = await _enrol(url, authority, public_key, self._launch, self._platform)
        context = client_context(authority, key, certificate)
        # Kept open however long we compute: a new connection would tell the host that it took long.
        connector = aiohttp.TCPConnector(
            ssl=context, limit=8, socket_factory=watched_socket, keepalive_timeout=_KEPT_S
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return await self._stack.enter_async_context(session), url


@asynccontextmanager
async def join(
    peer: Ready, launch: LaunchSpec, platform: Platform, find: Find | None = None
) -> AsyncIterator[Membership]:
    """Become a member of the job whose parameter server `peer` is; `find` finds its successors.

    Raises:
        PeerRefused: the evidence does not hold, or the server refused us.
    """
    async with AsyncExitStack() as stack:
        membership = Membership(launch, platform, find, stack)
        await membership.join(peer)
        yield membership


def _url(peer: Ready) -> str:
    return f"https://{peer.address}"


async def _fetch_ticket(session: aiohttp.ClientSession, url: str) -> Ticket:
    async with session.get(f"{url}/v1/ticket") as response:
        return await _read(response, Ticket, MAX_TICKET_BYTES)


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
