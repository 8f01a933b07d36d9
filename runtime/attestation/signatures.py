"""ECDSA P-256 signatures as DCAP writes them (r ‖ s, raw keys), and step 7: those inside a quote."""

import hashlib
from typing import Never

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from chiron.runtime.attestation.quote import SgxQuote
from chiron.runtime.attestation.record import StepFailed


def check_signature(name: str, key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> None:
    """Verify a 64-byte raw signature with SHA-256.

    Raises:
        StepFailed: it does not hold.
    """
    if len(signature) != 64:
        raise StepFailed(f"the signature of the {name} is not 64 bytes long")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise StepFailed(f"the signature of the {name} does not hold") from error


def certificate_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """A certificate's EC key; step 3 has made sure that it is one."""
    key = certificate.public_key()
    return key if isinstance(key, ec.EllipticCurvePublicKey) else _not_ec()


def _not_ec() -> Never:
    raise StepFailed("the certificate's key is not an elliptic-curve key")


def check_quote_signatures(quote: SgxQuote, pck: x509.Certificate) -> None:
    """Step 7: PCK key signs the quoting enclave's report, which binds the key that signs ours.

    Raises:
        StepFailed: a link does not hold.
    """
    check_signature("QE report", certificate_key(pck), quote.qe_signature, quote.qe_report.raw)
    binding = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    if quote.qe_report.report_data != binding.ljust(64, b"\0"):
        raise StepFailed("the QE report does not bind the attestation key")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError as error:
        raise StepFailed("the attestation key is not a point of P-256") from error
    check_signature("enclave's report", key, quote.signature, quote.signed)
