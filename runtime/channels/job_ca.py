"""The job's certificate authority: born in the parameter server's enclave, and gone with it.

Its certificate's digest is in the parameter server's claims, so whoever verified that evidence can trust
every certificate under it. Peers get a certificate only after their own evidence was verified.
"""

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from chiron.runtime.attestation.ra_tls import evidence_extension
from chiron.wire.attestation import Evidence
from chiron.wire.p256 import Issuer, common_name, generate_key, key_usage

UNGRANTED = datetime.timedelta(days=30)
"""How long a CA's certificate counts that waits for a grant, of which nothing is issued."""

SERVER_NAME = "parameter-server"
"""The name in the parameter server's certificate. Peers ask for it: an address is the host's word."""


def shard_name(index: int) -> str:
    """The name in the certificate of shard `index` of the parameter server, from 1."""
    return f"shard-{index}"


class JobCa:
    """Issues the certificates of one job. They end when its grant does, and its own with them."""

    def __init__(self, job: str, now: datetime.datetime) -> None:
        self._issuer = Issuer(common_name(f"chiron job {job}"), generate_key())
        self._now = now
        self.last_until(now + UNGRANTED)

    def last_until(self, end: datetime.datetime) -> None:
        """Make the CA's certificate anew, and issue from now on, with this end: the key stays."""
        self._lifetime = end - self._now
        key = self._issuer.key.public_key()
        self.certificate = self._issuer.issue(
            self._issuer.name,
            key,
            self._now,
            self._lifetime,
            critical=[x509.BasicConstraints(ca=True, path_length=0), key_usage("key_cert_sign", "crl_sign")],
            informative=[x509.SubjectKeyIdentifier.from_public_key(key)],
        )

    @property
    def certificate_der(self) -> bytes:
        """DER of the CA certificate; its SHA-256 is the `tls_ca_sha256` claim."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue_server(
        self, public_key: ec.EllipticCurvePublicKey, name: str, evidence: Evidence | None = None
    ) -> x509.Certificate:
        """A certificate for serving as `name`: the parameter server or one of its shards.

        With evidence whose claims bind `public_key`, data owners can verify it by itself (RA-TLS).
        """
        extra = [evidence_extension(evidence)] if evidence else []
        return self._issue(name, public_key, ExtendedKeyUsageOID.SERVER_AUTH, extra)

    def issue_client(self, name: str, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """A trainer's certificate: good for connecting, not for serving."""
        return self._issue(name, public_key, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        purpose: x509.ObjectIdentifier,
        extra: Sequence[x509.UnrecognizedExtension] = (),
    ) -> x509.Certificate:
        return self._issuer.issue(
            common_name(name),
            public_key,
            self._now,
            self._lifetime,
            critical=[
                x509.BasicConstraints(ca=False, path_length=None),
                key_usage("digital_signature"),
                x509.ExtendedKeyUsage([purpose]),
            ],
            informative=[
                x509.SubjectKeyIdentifier.from_public_key(public_key),
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuer.key.public_key()),
                x509.SubjectAlternativeName([x509.DNSName(name)]),
                *extra,
            ],
        )
