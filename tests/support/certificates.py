"""Certificates with one thing out of order, which the product's own functions would not issue."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

NOBODY = x509.Name([])


def certificate_for(
    public_key: CertificatePublicKeyTypes,
    *,
    signer: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime, datetime],
    subject: x509.Name = NOBODY,
    issuer: x509.Name | None = None,
    extensions: Iterable[x509.Extension[x509.ExtensionType]] = (),
    hashed: Any = None,
) -> x509.Certificate:
    """Whatever these say, signed; issued by its own subject unless another issuer is named."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    for extension in extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(signer, hashed or hashes.SHA256())
