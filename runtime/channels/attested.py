"""Serving over RA-TLS: a self-signed certificate that carries evidence, for enclaves that stand alone.

The parameter server's certificate is the job CA's (`chiron.runtime.channels.job_ca`); a predictor has no CA.
"""

import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.runtime.attestation.ra_tls import evidence_extension
from chiron.runtime.channels.job_ca import LIFETIME
from chiron.runtime.channels.tls import load_key
from chiron.wire.attestation import Evidence
from chiron.wire.p256 import Issuer, common_name


def attested_certificate(
    key: ec.EllipticCurvePrivateKey, evidence: Evidence, now: datetime.datetime
) -> x509.Certificate:
    """A certificate for `key` with evidence whose claims bind it; its name and dates say nothing."""
    issuer = Issuer(common_name(f"chiron {evidence.claims.role}"), key)
    return issuer.issue(
        issuer.name,
        key.public_key(),
        now,
        LIFETIME,
        critical=[x509.BasicConstraints(ca=False, path_length=None)],
        informative=[evidence_extension(evidence)],
    )


def attested_server_context(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    """TLS 1.3 for a server that asks nobody for a certificate: what it is sent is sealed, or public."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No tickets: every connection shows the evidence.
    context.num_tickets = 0
    load_key(context, key, certificate)
    return context
