"""The development TEE's certificates and packed structures are those that Intel's specifications describe."""

import hashlib
from datetime import UTC, datetime, timedelta

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.api.software_tee import pki
from chiron.api.software_tee.quote import (
    EnclaveIdentity,
    pack_report,
    raw_public_key,
    raw_signature,
    sign_quote,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PPID = bytes(range(16))


@pytest.fixture(scope="module")
def root() -> pki.Authority:
    return pki.create_root(NOW)


@pytest.fixture(scope="module")
def platform_ca(root: pki.Authority) -> pki.Authority:
    return pki.create_platform_ca(root, NOW)


@pytest.fixture(scope="module")
def pck(platform_ca: pki.Authority) -> pki.Authority:
    return pki.create_pck(platform_ca, PPID, NOW)


def test_chain_leads_from_the_pck_to_the_root(
    root: pki.Authority, platform_ca: pki.Authority, pck: pki.Authority
) -> None:
    root.certificate.verify_directly_issued_by(root.certificate)
    platform_ca.certificate.verify_directly_issued_by(root.certificate)
    pck.certificate.verify_directly_issued_by(platform_ca.certificate)
    with pytest.raises(ValueError):
        pck.certificate.verify_directly_issued_by(root.certificate)


def test_only_authorities_may_sign_certificates_and_lists(
    root: pki.Authority, platform_ca: pki.Authority, pck: pki.Authority
) -> None:
    signing = pki.create_tcb_signing(root, NOW)
    for authority, allowed in ((root, True), (platform_ca, True), (pck, False), (signing, False)):
        extensions = authority.certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert constraints.critical
        assert constraints.value.ca is allowed
        assert usage.value.key_cert_sign is allowed
        assert usage.value.crl_sign is allowed
        assert usage.value.digital_signature is not allowed
        assert extensions.get_extension_for_class(x509.CRLDistributionPoints)
        assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)


def test_root_says_by_its_name_that_it_is_for_development(root: pki.Authority) -> None:
    assert "SOFTWARE TEE" in root.certificate.subject.rfc4514_string()
    assert "development only" in root.certificate.subject.rfc4514_string()


def test_sgx_extension_reads_back_with_an_independent_parser(pck: pki.Authority) -> None:
    extension = dcap_qvl.parse_pck_extension_from_pem(pck.pem)
    assert extension.ppid == PPID
    assert extension.cpu_svn == pki.CPU_SVN
    assert extension.pce_svn == pki.PCE_SVN
    assert extension.pce_id == pki.PCE_ID
    assert extension.fmspc == pki.FMSPC
    assert extension.sgx_type == 0
    component = extension.get_value("1.2.840.113741.1.13.1.2.16")
    assert component == bytes([pki.CPU_SVN[15]])


def test_crl_is_signed_and_lists_what_was_revoked(platform_ca: pki.Authority, root: pki.Authority) -> None:
    crl = x509.load_der_x509_crl(pki.create_crl(platform_ca, NOW, revoked=(77,)))
    assert crl.is_signature_valid(platform_ca.key.public_key())
    assert not crl.is_signature_valid(root.key.public_key())
    assert crl.get_revoked_certificate_by_serial_number(77) is not None
    assert crl.get_revoked_certificate_by_serial_number(78) is None
    assert crl.next_update_utc == NOW + pki.CRL_VALIDITY


def test_report_body_has_every_field_at_its_offset() -> None:
    """sgx_report_body_t, Intel SDM volume 3D, table 35-21."""
    identity = EnclaveIdentity(
        measurement=b"\xaa" * 32, signer=b"\xbb" * 32, product_id=0x0102, svn=0x0304, debug=True
    )
    report = pack_report(identity, b"\xcc" * 64)
    assert len(report) == 384
    assert report[:16] == pki.CPU_SVN
    assert report[48:56] == bytes([0x07, 0, 0, 0, 0, 0, 0, 0])  # INIT | DEBUG | MODE64BIT
    assert report[64:96] == b"\xaa" * 32
    assert report[128:160] == b"\xbb" * 32
    assert report[256:260] == bytes([0x02, 0x01, 0x04, 0x03])
    assert report[320:384] == b"\xcc" * 64
    others = report[16:48] + report[96:128] + report[160:256] + report[260:320]
    assert others == bytes(len(others))


def test_quote_has_every_part_at_its_offset_and_its_signatures_hold(pck: pki.Authority) -> None:
    """Intel SGX ECDSA QuoteLibReference, appendix A.4: offsets are told here, not taken from the packer."""
    attestation_key = ec.generate_private_key(ec.SECP256R1())
    report = pack_report(EnclaveIdentity(b"\xaa" * 32), bytes(64))
    chain = pck.pem
    quote = sign_quote(report, attestation_key, pck, chain)
    assert quote[:2] == (3).to_bytes(2, "little")
    assert quote[2:4] == (2).to_bytes(2, "little")
    assert quote[12:28].hex() == "939a7233f79c4ca9940a0db3957f0607"
    assert quote[48:432] == report
    assert int.from_bytes(quote[432:436], "little") == len(quote) - 436
    public_key, qe_report = quote[500:564], quote[564:948]
    assert public_key == raw_public_key(attestation_key.public_key())
    assert quote[1012:1014] == (32).to_bytes(2, "little")
    auth_data = quote[1014:1046]
    assert qe_report[320:352] == hashlib.sha256(public_key + auth_data).digest()
    assert qe_report[352:384] == bytes(32)
    assert quote[1046:1052] == (5).to_bytes(2, "little") + len(chain).to_bytes(4, "little")
    assert quote[1052:] == chain
    _check(attestation_key.public_key(), quote[436:500], quote[:432])
    _check(pck.key.public_key(), quote[948:1012], qe_report)
    parsed = dcap_qvl.parse_quote(quote)
    assert bytes(parsed.report.mr_enclave) == b"\xaa" * 32


def test_raw_signature_is_64_bytes_for_small_numbers_too() -> None:
    key = ec.derive_private_key(1, ec.SECP256R1())
    for number in range(64):
        assert len(raw_signature(key, bytes([number]))) == 64


def test_public_key_of_the_scalar_one_is_the_curves_generator() -> None:
    """SEC 2, section 2.4.2: G of secp256r1."""
    raw = raw_public_key(ec.derive_private_key(1, ec.SECP256R1()).public_key())
    assert raw.hex() == (
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )


def _check(key: ec.EllipticCurvePublicKey, raw: bytes, message: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(encode_dss_signature(r, s), message + b"x", ec.ECDSA(hashes.SHA256()))


def test_certificates_outlive_their_revocation_lists() -> None:
    assert timedelta(days=365) < pki.VALIDITY
    assert pki.CRL_VALIDITY < pki.VALIDITY
