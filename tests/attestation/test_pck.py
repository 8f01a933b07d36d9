"""The reader of a PCK certificate's SGX extension: as strict as the profile, and never of another mind."""

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.api.software_tee.pki import CPU_SVN, FMSPC, sgx_extension
from chiron.runtime.attestation import der
from chiron.runtime.attestation.pck import SgxType, read_platform
from chiron.runtime.attestation.steps import StepFailed
from tests.support.forge import Platform, certificate

OURS = Platform()
PPID = bytes(range(16))
EXTENSION = sgx_extension(PPID)


def test_every_fact_is_read() -> None:
    platform = read_platform(certificate(OURS.platform_ca, OURS.pck, sgx_extension=EXTENSION).certificate)
    assert (platform.ppid, platform.fmspc, platform.cpu_svn) == (PPID, FMSPC, CPU_SVN)
    assert (platform.sgx_type, platform.smt) == (SgxType.STANDARD, True)
    assert platform.instance_id is not None


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "30",
        "3000 00",  # something follows
        "300105",  # cut off within
        "30810100",  # a length in a longer form than need be
        "3083000001",  # a length of three bytes
        "3080 0000",  # of indefinite length
        "1f0100",  # a tag of several bytes
    ],
)
def test_der_with_slack_is_refused(encoded: str) -> None:
    with pytest.raises(ValueError, match=r"not|of|cut"):
        der.read(bytes.fromhex(encoded)).items()


@pytest.mark.parametrize("encoded", ["02020001", "0200", "0201ff", "020200ff00", "0a0105", "02020100"])
def test_integers_that_are_not_small_or_not_shortest_are_refused(encoded: str) -> None:
    with pytest.raises(ValueError, match=r"not|of|cut"):
        der.read(bytes.fromhex(encoded)).number(0xFF)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(EXTENSION) - 1), mask=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_read_as_dcap_qvl_reads_it(place: int, mask: int) -> None:
    changed = bytearray(EXTENSION)
    changed[place] ^= mask
    altered = certificate(OURS.platform_ca, OURS.pck, sgx_extension=bytes(changed)).certificate
    try:
        ours = read_platform(altered)
    except StepFailed:
        return
    theirs = dcap_qvl.parse_pck_extension_from_pem(altered.public_bytes(Encoding.PEM))
    assert (ours.ppid, ours.cpu_svn, ours.pce_svn) == (theirs.ppid, theirs.cpu_svn, theirs.pce_svn)
    assert (ours.pce_id, ours.fmspc, ours.sgx_type) == (theirs.pce_id, theirs.fmspc, theirs.sgx_type)
    assert ours.instance_id == theirs.platform_instance_id
