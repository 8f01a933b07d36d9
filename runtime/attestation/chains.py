"""Certificate chains and revocation lists (steps 3 and 4), and the signatures of a certificate's key.

Intel SGX PCK Certificate and CRL Profile Specification, rev. 1.5. Every chain is leaf first and ends in the
pinned root itself, byte for byte: a root that merely has the right name or key is not enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from chiron.runtime.attestation.steps import StepFailed
from chiron.wire.attestation import Collateral

MAX_CHAIN = 3
_PARSE_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that `cryptography` raises for bytes that it cannot read."""


@dataclass(frozen=True)
class Chains:
    """The three chains that verification walks, each leaf first."""

    pck: tuple[x509.Certificate, ...]
    """PCK certificate, platform (or processor) CA, root."""
    tcb_info: tuple[x509.Certificate, ...]
    """TCB signing, root."""
    qe_identity: tuple[x509.Certificate, ...]
    """TCB signing, root."""

    @property
    def root(self) -> x509.Certificate:
        """The pinned root."""
        return self.pck[-1]


def check_chains(collateral: Collateral, quoted_pck_chain: bytes, root: bytes, at: datetime) -> Chains:
    """Step 3: every chain leads to the pinned root (DER) and is in date.

    Raises:
        StepFailed: one does not; the message names it.
    """
    pck = _pck_chain(collateral, quoted_pck_chain)
    crl_issuer = parse_chain("PCK CRL issuer", collateral.pck_crl_issuer_chain)
    chains = Chains(
        pck=pck,
        tcb_info=parse_chain("TCB info issuer", collateral.tcb_info_issuer_chain),
        qe_identity=parse_chain("QE identity issuer", collateral.qe_identity_issuer_chain),
    )
    check_chain("PCK", pck, root, at, length=3)
    check_chain("TCB info issuer", chains.tcb_info, root, at, length=2)
    check_chain("QE identity issuer", chains.qe_identity, root, at, length=2)
    if crl_issuer != pck[1:]:
        raise StepFailed("the PCK CRL's issuer is not the PCK certificate's")
    return chains


def parse_chain(name: str, pem: str | bytes) -> tuple[x509.Certificate, ...]:
    """Certificates of a PEM text, in its order.

    Raises:
        StepFailed: it holds none, too many, or a malformed one.
    """
    raw = pem.encode() if isinstance(pem, str) else pem
    try:
        chain = tuple(x509.load_pem_x509_certificates(raw))
        for certificate in chain:
            _read_whole(certificate)
    except _PARSE_ERRORS as error:
        raise StepFailed(f"the {name} chain cannot be read") from error
    if len(chain) > MAX_CHAIN:
        raise StepFailed(f"the {name} chain holds {len(chain)} certificates")
    return chain


def _read_whole(certificate: x509.Certificate) -> None:
    """`cryptography` parses a certificate's parts when they are asked for: here, all that are used are."""
    certificate.subject.rfc4514_string()
    certificate.issuer.rfc4514_string()
    list(certificate.extensions)
    certificate.public_key()
    _ = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _name(certificate: x509.Certificate) -> str:
    """The subject, for messages.

    Whoever made the certificate chose it, so nothing in it may move a terminal's cursor.
    """
    text = certificate.subject.rfc4514_string()[:120]
    return "".join(character if character.isprintable() else "?" for character in text)


def _pck_chain(collateral: Collateral, quoted: bytes) -> tuple[x509.Certificate, ...]:
    """The quote's chain; where the collateral has one too, they must agree, as only one is looked at."""
    chain = parse_chain("PCK", quoted.rstrip(b"\0"))
    in_collateral = collateral.pck_certificate_chain
    if in_collateral is not None and parse_chain("PCK", in_collateral) != chain:
        raise StepFailed("quote and collateral hold different PCK certificates")
    return chain


def check_chain(
    name: str, chain: Sequence[x509.Certificate], root: bytes, at: datetime, *, length: int
) -> None:
    """Check that `chain` (leaf first) has this length, ends in `root` (DER), and is signed and in date.

    Raises:
        StepFailed: it does not.
    """
    if len(chain) != length:
        raise StepFailed(f"the {name} chain holds {len(chain)} certificates, not {length}")
    if chain[-1].public_bytes(Encoding.DER) != root:
        raise StepFailed(f"the {name} chain ends in another root than the pinned one")
    for certificate, issuer in zip(chain, (*chain[1:], chain[-1]), strict=True):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
            raise StepFailed(f"{_name(certificate)} is not signed by the next of the {name} chain") from error
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise StepFailed(f"{_name(certificate)} is out of date at {at:%Y-%m-%d}")
        _check_p256(certificate)
    for authority in chain[1:]:
        _check_may_issue(authority)


def _check_may_issue(certificate: x509.Certificate) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise StepFailed(f"{_name(certificate)} is no authority") from error
    if not constraints.ca or not usage.key_cert_sign:
        raise StepFailed(f"{_name(certificate)} is no authority")


def _check_p256(certificate: x509.Certificate) -> None:
    key, hashed = certificate.public_key(), certificate.signature_hash_algorithm
    p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if not p256 or not isinstance(hashed, hashes.SHA256):
        raise StepFailed(f"{_name(certificate)} is not ECDSA P-256 with SHA-256")


def check_revocation(collateral: Collateral, chains: Chains, at: datetime) -> str:
    """Step 4: both lists are signed by their issuers and current, and name none of the certificates.

    Returns what was compared.

    Raises:
        StepFailed: with which list or certificate.
    """
    root_list = _current_list("root", collateral.root_ca_crl, chains.root, at)
    pck_list = _current_list("PCK", collateral.pck_crl, chains.pck[1], at)
    for certificate in (*chains.pck[1:], *chains.tcb_info, *chains.qe_identity):
        _check_not_revoked(root_list, certificate)
    _check_not_revoked(pck_list, chains.pck[0])
    soonest = min(list_end("root", root_list), list_end("PCK", pck_list))
    count = len(root_list) + len(pck_list)
    return f"root and PCK lists, {count} entries, current until {soonest:%Y-%m-%d}"


def _current_list(
    name: str, encoded: str, issuer: x509.Certificate, at: datetime
) -> x509.CertificateRevocationList:
    try:
        crl = x509.load_der_x509_crl(bytes.fromhex(encoded))
        signed = crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        named = crl.issuer == issuer.subject
        list(crl), list(crl.extensions)  # every part must parse
    except _PARSE_ERRORS as error:
        raise StepFailed(f"the {name} revocation list cannot be read") from error
    if not named or not signed:
        raise StepFailed(f"the {name} revocation list is not signed by its issuer")
    if at < crl.last_update_utc:
        raise StepFailed(f"the {name} revocation list is of the future")
    if at > list_end(name, crl):
        raise StepFailed(f"the {name} revocation list expired on {list_end(name, crl):%Y-%m-%d}")
    return crl


def list_end(name: str, crl: x509.CertificateRevocationList) -> datetime:
    """When a revocation list ends.

    Raises:
        StepFailed: never, and such a list is not accepted.
    """
    if crl.next_update_utc is None:
        raise StepFailed(f"the {name} revocation list never expires")
    return crl.next_update_utc


def _check_not_revoked(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> None:
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise StepFailed(f"{_name(certificate)} is revoked")


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
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise StepFailed("the certificate's key is not an elliptic-curve key")
    return key
