"""Speaking to an enclave directly over TLS: the peer proves by the evidence in its certificate what it runs.

`attested_context` is an `ssl.SSLContext` that works wherever one is taken (aiohttp, asyncio, http.client,
plain sockets). The evidence is verified at the end of the handshake, before one byte of the application is
sent; without evidence, or with evidence that the policy refuses, the handshake ends: `PeerNotAttested`.

>>> connector = attested_connector(policy, Role.PREDICTOR, job)
>>> async with aiohttp.ClientSession(connector=connector) as session: ...
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import aiohttp

from chiron.client.errors import PeerNotAttested
from chiron.runtime.attestation.ra_tls import verify_certificate
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.errors import AttestationError, EvidenceRefused
from chiron.wire.attestation import AttestationPolicy, Role

Clock = Callable[[], datetime]


class AttestedContext(ssl.SSLContext):
    """TLS 1.3 to an enclave that this policy accepts in this role of this job, and to nobody else."""

    def __new__(
        cls,
        policy: AttestationPolicy,
        role: Role,
        job: str,
        clock: Clock | None = None,
        owner_key_sha256: str | None = None,
    ) -> Self:
        """See `attested_context`."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context._policy, context._role, context._job = policy, role, job
        context._owner = owner_key_sha256
        context._clock = clock or (lambda: datetime.now(UTC))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Names and issuers prove nothing here, as the host could have any: the evidence is what is verified.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # A resumed session would show no certificate.
        context.options |= ssl.OP_NO_TICKET
        context.sslobject_class = _AttestedObject
        context.sslsocket_class = _AttestedSocket
        return context

    _policy: AttestationPolicy
    _role: Role
    _job: str
    _owner: str | None
    _clock: Clock

    def verify_peer(self, certificate: bytes | None) -> VerifiedEvidence:
        """Verify the DER certificate of a peer whose handshake is complete.

        Raises:
            PeerNotAttested: there is no evidence in it, or it does not hold.
        """
        try:
            return verify_certificate(
                certificate or b"",
                self._policy,
                self._role,
                self._job,
                self._clock(),
                owner_key_sha256=self._owner,
            )
        except EvidenceRefused as error:
            raise PeerNotAttested(str(error), code=error.code, steps=error.steps) from error
        except AttestationError as error:
            raise PeerNotAttested(str(error), code=error.code) from error


def attested_context(
    policy: AttestationPolicy,
    role: Role,
    job: str,
    *,
    owner_key_sha256: str | None = None,
    clock: Clock | None = None,
) -> AttestedContext:
    """A verifying TLS context for enclaves in `role` of `job` (id in full); `clock` is for tests.

    With `owner_key_sha256`, a predictor must serve the model of the owner with this signing key. Without it
    the host may have started the right code on a model of its own: `attested.claims.owner_key_sha256` of the
    connection says whose it is.
    """
    return AttestedContext(policy, role, job, clock, owner_key_sha256)


def attested_connector(
    policy: AttestationPolicy, role: Role, job: str, *, owner_key_sha256: str | None = None, **options: Any
) -> aiohttp.TCPConnector:
    """An aiohttp connector over `attested_context`; `options` are `aiohttp.TCPConnector`'s others."""
    context = attested_context(policy, role, job, owner_key_sha256=owner_key_sha256)
    return aiohttp.TCPConnector(ssl=context, **options)


class _AttestedObject(ssl.SSLObject):
    """The object that asyncio speaks TLS through. It refuses to read and write until the peer is verified."""

    attested: VerifiedEvidence | None = None

    def do_handshake(self) -> None:
        super().do_handshake()
        self.attested = _context_of(self).verify_peer(self.getpeercert(binary_form=True))

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - ssl's own name
        _require(self.attested)
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        _require(self.attested)
        return super().write(data)


class _AttestedSocket(ssl.SSLSocket):
    """The same for blocking sockets: OpenSSL would otherwise shake hands by itself at the first write."""

    attested: VerifiedEvidence | None = None

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        self.attested = _context_of(self).verify_peer(self.getpeercert(binary_form=True))

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - ssl's own name
        _require(self.attested)
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        _require(self.attested)
        return super().write(data)

    def send(self, data: Any, flags: int = 0) -> int:
        _require(self.attested)
        return super().send(data, flags)


def _context_of(connection: ssl.SSLObject | ssl.SSLSocket) -> AttestedContext:
    context = connection.context
    if not isinstance(context, AttestedContext):
        raise PeerNotAttested("the connection was given another context", code="evidence-missing")
    return context


def _require(attested: VerifiedEvidence | None) -> None:
    if attested is None:
        raise PeerNotAttested("the peer is not verified yet", code="evidence-missing")
