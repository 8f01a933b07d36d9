"""Certificates: what is asked for is in them, and verifiers take them."""

import datetime

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from chiron.wire.p256 import CLOCK_SKEW, Issuer, common_name, generate_key, key_usage, public_key_der

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
LIFETIME = datetime.timedelta(days=30)


def test_a_key_is_on_p256_and_is_read_back_from_its_der() -> None:
    key = generate_key()
    assert isinstance(key.curve, ec.SECP256R1)
    assert load_der_public_key(public_key_der(key.public_key())) == key.public_key()


def test_a_certificate_is_of_its_issuer_and_of_no_other() -> None:
    authority = Issuer(common_name("authority"), generate_key())
    own = authority.issue(authority.name, authority.key.public_key(), NOW, LIFETIME)
    certificate = authority.issue(common_name("peer"), generate_key().public_key(), NOW, LIFETIME)
    certificate.verify_directly_issued_by(own)
    stranger = Issuer(authority.name, generate_key())
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(
            stranger.issue(stranger.name, stranger.key.public_key(), NOW, LIFETIME)
        )


def test_a_certificate_says_what_it_was_asked_to() -> None:
    issuer = Issuer(common_name("authority"), generate_key())
    key = generate_key().public_key()
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    names = x509.SubjectAlternativeName([x509.DNSName("peer")])
    certificate = issuer.issue(
        common_name("peer", "us"), key, NOW, LIFETIME, critical=[constraints], informative=[names]
    )
    assert certificate.public_key() == key
    assert certificate.subject.rfc4514_string() == "O=us,CN=peer"
    assert certificate.not_valid_before_utc == NOW - CLOCK_SKEW
    assert certificate.not_valid_after_utc == NOW + LIFETIME
    found = {(extension.value, extension.critical) for extension in certificate.extensions}
    assert found == {(constraints, True), (names, False)}


def test_key_usage_is_exactly_what_is_named() -> None:
    usage = key_usage("key_cert_sign", "crl_sign")
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    assert not usage.key_agreement
