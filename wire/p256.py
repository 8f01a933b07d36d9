"""P-256 keys and the certificates for them: one way, for TLS between enclaves and for the development TEE.

Keys are ECDSA's on NIST P-256, signatures are with SHA-256; TLS 1.3 and Intel's profile need nothing else.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLOCK_SKEW = datetime.timedelta(days=1)
"""An enclave's clock is its host's: peers may disagree by this much."""

_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def generate_key() -> ec.EllipticCurvePrivateKey:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def public_key_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def common_name(name: str, organization: str | None = None) -> x509.Name:
    """A distinguished name of a common name, and an organization if one is given."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def key_usage(*uses: str) -> x509.KeyUsage:
    """The key usage extension with exactly `uses`, by their names in `x509.KeyUsage`."""
    return x509.KeyUsage(**{use: use in uses for use in _USES})


@dataclass(frozen=True)
class Issuer:
    """Who signs certificates: its name and key."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    def issue(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        now: datetime.datetime,
        lifetime: datetime.timedelta,
        *,
        critical: Iterable[x509.ExtensionType] = (),
        informative: Iterable[x509.ExtensionType] = (),
    ) -> x509.Certificate:
        """A certificate that says that `public_key` is `subject`'s, from `now` (less `CLOCK_SKEW`) on.

        Extensions are `critical` where a verifier that does not know one must refuse the certificate.
        """
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + lifetime)
        )
        for extension in critical:
            builder = builder.add_extension(extension, critical=True)
        for extension in informative:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())
