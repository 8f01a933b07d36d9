"""TLS 1.3 contexts between a job's enclaves, trusting the job's CA and nothing else."""

import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def server_context(
    key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, ca: x509.Certificate
) -> ssl.SSLContext:
    """The parameter server's context: a client certificate is optional, as enrolment comes before it.

    What else is asked without one is refused by the application (`runtime.channels.enrolment`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    load_key(context, key, certificate)
    return context


def client_context(
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey | None = None,
    certificate: x509.Certificate | None = None,
) -> ssl.SSLContext:
    """A trainer's context: before enrolment without a key, afterwards with its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, ca)
    # The address comes from the untrusted host, so matching a name against it would prove nothing. Only
    # the parameter server holds a certificate for serving under the job's CA: the CA is the identity.
    context.check_hostname = False
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
