"""Serving over RA-TLS: a self-signed certificate that carries evidence, for enclaves that stand alone.

The parameter server's certificate is the job CA's (`chiron.runtime.channels.job_ca`); a predictor has no CA.
"""

import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chiron.runtime.attestation.ra_tls import evidence_extension
from chiron.runtime.channels.job_ca import CLOCK_SKEW, LIFETIME
from chiron.runtime.channels.tls import load_key
from chiron.wire.attestation import Evidence


def attested_certificate(
    key: ec.EllipticCurvePrivateKey, evidence: Evidence, now: datetime.datetime
) -> x509.Certificate:
    """A certificate for `key` with evidence whose claims bind it; its name and dates say nothing."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"chiron {evidence.claims.role}")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(evidence_extension(evidence), critical=False)
        .sign(key, hashes.SHA256())
    )


def attested_server_context(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    """TLS 1.3 for a server that asks nobody for a certificate: what it is sent is sealed, or public."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No tickets: every connection shows the evidence.
    context.num_tickets = 0
    load_key(context, key, certificate)
    return context
