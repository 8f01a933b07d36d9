"""RA-TLS: evidence inside an X.509 certificate, and its verification by whoever meets the certificate.

The extension is the TCG's conceptual message wrapper (DICE Attestation Architecture 1.1, OID 2.23.133.5.4.9),
with the ASN.1 of draft-ietf-rats-msg-wrap, section "X.509": `CMW ::= CHOICE { json UTF8String, cbor OCTET
STRING }`. We write the JSON record form: media type, base64url value, and indicator 4 (evidence). It is not
critical, as OpenSSL refuses unknown critical extensions.

What makes it safe: the claims bind the digest of the certificate's public key, and the handshake proves that
the peer holds that key. Nothing else of the certificate (names, dates, issuer) is relied on. Freshness comes
from the key, which was born in the enclave and never leaves it; so the evidence carries the boot nonce.
"""

import base64
import hashlib
import json
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from chiron.runtime.attestation.platform import BOOT_NONCE
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence, verify
from chiron.runtime.errors import EvidenceMissing
from chiron.wire.attestation import AttestationPolicy, Evidence, Role

OID = x509.ObjectIdentifier("2.23.133.5.4.9")
MEDIA_TYPE = "application/vnd.chiron.evidence+json"
EVIDENCE_INDICATOR = 4
"""Bit 2 of the wrapper's indicator: the message is evidence."""
MAX_EXTENSION_BYTES = 1024 * 1024


def evidence_extension(evidence: Evidence) -> x509.UnrecognizedExtension:
    """The certificate extension that carries `evidence`."""
    value = base64.urlsafe_b64encode(evidence.model_dump_json(exclude_none=True).encode()).rstrip(b"=")
    record = json.dumps([MEDIA_TYPE, value.decode(), EVIDENCE_INDICATOR], separators=(",", ":"))
    return x509.UnrecognizedExtension(OID, asn1.encode_der(record))


def evidence_in(certificate: x509.Certificate) -> Evidence:
    """The evidence that a certificate carries, not yet verified.

    Raises:
        EvidenceMissing: it carries none, or something else.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(OID).value
        if (
            not isinstance(extension, x509.UnrecognizedExtension)
            or len(extension.value) > MAX_EXTENSION_BYTES
        ):
            raise EvidenceMissing("the certificate's evidence is too large")
        media_type, value, indicator = json.loads(asn1.decode_der(str, extension.value))
        if (media_type, indicator) != (MEDIA_TYPE, EVIDENCE_INDICATOR) or not isinstance(value, str):
            raise EvidenceMissing("the certificate carries another kind of message")
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        return Evidence.model_validate_json(raw)
    except x509.ExtensionNotFound as error:
        raise EvidenceMissing("the certificate carries no evidence") from error
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        raise EvidenceMissing("the certificate's evidence cannot be read") from error


def key_digest(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's SubjectPublicKeyInfo, as claims carry it."""
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).hexdigest()


def verify_certificate(
    der: bytes,
    policy: AttestationPolicy,
    role: Role,
    job: str,
    at: datetime,
    *,
    owner_key_sha256: str | None = None,
) -> VerifiedEvidence:
    """Verify the evidence in a peer's DER certificate, whose key a finished handshake proved it to hold.

    With `owner_key_sha256`, a predictor must serve the model of the owner with this signing key.

    Raises:
        EvidenceMissing: there is none to verify.
        EvidenceRefused: it does not hold, or binds another key.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        presented = key_digest(certificate)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceMissing("the peer's certificate cannot be read") from error
    expected = Expected(
        role, job, BOOT_NONCE, tls_public_key_sha256=presented, owner_key_sha256=owner_key_sha256
    )
    return verify(evidence_in(certificate), policy, expected, at)
