"""TLS 1.3 between a job's enclaves: it trusts the job's CA and nothing else, and checks the server's name.

A server's URL names its role, so that TLS checks the name in its certificate. The address, which the
untrusted host tells, only says where to dial.
"""

import ipaddress
import socket
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

_KEPT_S = 3600.0
"""How long an idle connection stays open."""
IDLE_S = 15
INTERVAL_S = 5
PROBES = 4
"""A peer that is silent for `IDLE_S + PROBES * INTERVAL_S` seconds is taken for dead."""
UNACKNOWLEDGED_MS = 40_000


def server_context(
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    ca: x509.Certificate,
    *,
    only_members: bool = False,
) -> ssl.SSLContext:
    """A server's context. With `only_members` nobody comes in without a certificate of the job's CA.

    Without, as at the parameter server, a certificate is optional, since enrolment comes before it; what else
    is asked without one is refused by the application (`chiron.runtime.channels.enrolment`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, ca)
    context.verify_mode = ssl.CERT_REQUIRED if only_members else ssl.CERT_OPTIONAL
    load_key(context, key, certificate)
    return context


def renew(
    context: ssl.SSLContext,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    ca: x509.Certificate,
) -> None:
    """Serve with another certificate from the next handshake on, and trust its CA beside the ones before."""
    _harden(context, ca)
    load_key(context, key, certificate)


def client_context(
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey | None = None,
    certificate: x509.Certificate | None = None,
) -> ssl.SSLContext:
    """A context for speaking to the job's servers, by the names that its CA gave them (`named_connector`).

    Before enrolment it has no key, afterwards the member's own with its certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, ca)
    if key is not None and certificate is not None:
        load_key(context, key, certificate)
    return context


def _harden(context: ssl.SSLContext, ca: x509.Certificate) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=ca.public_bytes(serialization.Encoding.DER))


def load_key(context: ssl.SSLContext, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """Let `context` show `certificate` and use its `key`.

    Python's ssl reads keys from files only: one lives for this call in the enclave's in-memory /tmp.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "key.pem")
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(path)


def named_url(name: str, address: str) -> str:
    """URL of the server `name` that listens at `address` (host:port)."""
    return f"https://{name}:{address.rpartition(':')[2]}"


def named_connector(context: ssl.SSLContext, address: str) -> TCPConnector:
    """A connector to `address` (host:port), whatever name a URL has."""
    return TCPConnector(
        ssl=context,
        limit=8,
        resolver=_At(address.rpartition(":")[0].strip("[]")),
        socket_factory=_watched_socket,
        # Kept open however long we compute: a new connection would tell the host that it took long.
        keepalive_timeout=_KEPT_S,
    )


class _At(AbstractResolver):
    """Finds every name at one host."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver.resolve`."""
        try:
            version = ipaddress.ip_address(self._host).version
        except ValueError:
            return await DefaultResolver().resolve(self._host, port, family)
        found = socket.AF_INET if version == 4 else socket.AF_INET6
        return [
            ResolveResult(
                hostname=host,
                host=self._host,
                port=port,
                family=found,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """See `AbstractResolver.close`."""


def _watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket with TCP keep-alive: else a trainer could wait for ever on a half-open connection."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    # A library OS need not know every option; the exchange's own deadlines still hold there.
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return made
