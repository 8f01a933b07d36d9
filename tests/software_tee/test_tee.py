"""The development TEE keeps its secrets across restarts, and gives keys to nobody else's measurement."""

import hmac
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chiron.api.software_tee import pki
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.tee import SoftwareTee
from chiron.runtime.attestation.verify import verify_quote
from chiron.wire.attestation import AttestationPolicy, Collateral

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONE = EnclaveIdentity(b"\x01" * 32, signer=b"\x09" * 32)
TWO = EnclaveIdentity(b"\x02" * 32, signer=b"\x09" * 32)


@pytest.fixture
def tee(tmp_path: Path) -> SoftwareTee:
    return SoftwareTee.open(tmp_path / "tee", NOW)


def test_restart_keeps_the_root_and_the_sealing_keys(tmp_path: Path, tee: SoftwareTee) -> None:
    again = SoftwareTee.open(tmp_path / "tee", NOW + timedelta(days=1))
    assert again.root_der == tee.root_der
    assert again.sealing_key(ONE, "measurement", b"l") == tee.sealing_key(ONE, "measurement", b"l")


def test_another_machine_derives_other_keys_under_another_root(tmp_path: Path, tee: SoftwareTee) -> None:
    other = SoftwareTee.open(tmp_path / "other", NOW)
    assert other.root_der != tee.root_der
    assert other.sealing_key(ONE, "measurement", b"l") != tee.sealing_key(ONE, "measurement", b"l")


def test_sealing_keys_differ_by_measurement_policy_and_label(tee: SoftwareTee) -> None:
    keys = {
        tee.sealing_key(ONE, "measurement", b"l"),
        tee.sealing_key(TWO, "measurement", b"l"),
        tee.sealing_key(ONE, "measurement", b"m"),
        tee.sealing_key(ONE, "signer", b"l"),
    }
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


def test_signer_keys_are_shared_by_one_signers_product_only(tee: SoftwareTee) -> None:
    other_product = EnclaveIdentity(b"\x01" * 32, signer=b"\x09" * 32, product_id=5)
    other_signer = EnclaveIdentity(b"\x01" * 32, signer=b"\x08" * 32)
    shared = tee.sealing_key(ONE, "signer", b"l")
    assert tee.sealing_key(TWO, "signer", b"l") == shared
    assert tee.sealing_key(other_product, "signer", b"l") != shared
    assert tee.sealing_key(other_signer, "signer", b"l") != shared


def test_everything_secret_is_readable_by_its_owner_only(tmp_path: Path, tee: SoftwareTee) -> None:
    directory = tmp_path / "tee"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        if path.name != "root-certificate.pem":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_published_root_certificate_holds_no_private_key(tmp_path: Path, tee: SoftwareTee) -> None:
    assert (tmp_path / "tee" / "root-certificate.pem").read_bytes() == tee.root_pem
    assert b"PRIVATE" not in tee.root_pem


@pytest.mark.parametrize("name", ["fuse-secret", "pck.pem", "root.pem"])
def test_cut_off_secret_is_refused_not_used(tmp_path: Path, tee: SoftwareTee, name: str) -> None:
    path = tmp_path / "tee" / name
    path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(ValueError, match=name):
        SoftwareTee.open(tmp_path / "tee", NOW)


def test_collateral_is_renewed_before_it_ends(tee: SoftwareTee) -> None:
    first = tee.collateral(NOW)
    assert tee.collateral(NOW + timedelta(days=1)) is first
    later = NOW + pki.CRL_VALIDITY
    renewed = tee.collateral(later)
    assert renewed is not first
    policy = AttestationPolicy(software_root=tee.root_der, measurements=frozenset({ONE.measurement.hex()}))
    verify_quote(tee.quote(ONE, bytes(64)), Collateral.model_validate(renewed), policy, later)


def test_sealing_key_is_hkdf_of_the_fuse_secret(tmp_path: Path, tee: SoftwareTee) -> None:
    """RFC 5869 with SHA-256, written out: extract with a zero salt, then one block of expand."""
    secret = (tmp_path / "tee" / "fuse-secret").read_bytes()
    pseudorandom = hmac.digest(bytes(32), secret, "sha256")
    info = b"chiron/v1/software-seal\0measurement\0" + ONE.measurement + b"label"
    expected = hmac.digest(pseudorandom, info + b"\x01", "sha256")
    assert tee.sealing_key(ONE, "measurement", b"label") == expected
