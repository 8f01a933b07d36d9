"""The job's certificate authority: born in the parameter server's enclave, and gone with it.

Its certificate's digest is in the parameter server's claims, so whoever verified that evidence can trust
every certificate under it. Peers get a certificate only after their own evidence was verified.
"""

import datetime
import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chiron.runtime.attestation.ra_tls import evidence_extension
from chiron.wire.attestation import Evidence

LIFETIME = datetime.timedelta(days=30)
"""Longer than any job; the key does not outlive its process anyway."""
CLOCK_SKEW = datetime.timedelta(days=1)
"""The enclave's clock is the host's: peers may disagree by this much."""


SERVER_NAME = "parameter-server"
"""What the parameter server's certificate names, and its peers ask for: an address is the host's word."""


def shard_name(index: int) -> str:
    """The same of shard `index` of the parameter server, from 1."""
    return f"shard-{index}"


class JobCa:
    """Issues the certificates of one job. ECDSA P-256; TLS 1.3 needs nothing else."""

    def __init__(self, job: str, now: datetime.datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"chiron job {job}")])
        self._now = now
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        usage = _key_usage(certificate_sign=True)
        self.certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
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
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            self._builder(subject, public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(certificate_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(authority, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        for extension in extra:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - CLOCK_SKEW)
            .not_valid_after(self._now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def certificate_digest(der: bytes) -> str:
    """SHA-256 of a DER certificate in hex, as claims carry it."""
    return hashlib.sha256(der).hexdigest()


def public_key_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
