"""TLS 1.3 contexts between a job's enclaves, trusting the job's CA and nothing else."""

import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


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
    """Python's ssl reads keys from files only: one lives for this call in the enclave's in-memory /tmp."""
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
