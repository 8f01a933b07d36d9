"""Sealing to an enclave's own measurement, across restarts, updates and other enclaves."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.runtime.attestation.platform import RefusingPlatform
from chiron.runtime.attestation.sgx import SgxPlatform
from chiron.runtime.errors import OpenFailed, TooLarge
from chiron.runtime.sealing.machine_key import own_key
from chiron.runtime.sealing.sealer import OVERHEAD_BYTES, SEALED_MAGIC, Sealer, open_blob, seal_blob
from chiron.wire.labels import CHECKPOINT, MODEL
from tests.support.forge import Platform
from tests.support.occlum_double import OcclumDouble
from tests.support.tee import QuotingServices

HARDWARE = Platform(datetime.now(UTC))
DOUBLE = OcclumDouble(HARDWARE)


def sgx(double: OcclumDouble = DOUBLE) -> SgxPlatform:
    return SgxPlatform(3, double.ioctl, lambda quote: HARDWARE.collateral)


def test_sealed_object_opens_after_a_restart_and_has_its_public_size() -> None:
    for content in (b"", b"weights", b"x" * 100):
        sealed = Sealer(sgx(), MODEL).seal(content, size=100, context=b"job")
        assert len(sealed) == 100 + OVERHEAD_BYTES
        assert Sealer(sgx(), MODEL).open(sealed, context=b"job") == content


def test_sealed_object_opens_after_the_processors_update() -> None:
    sealed = Sealer(sgx(), MODEL).seal(b"weights", size=100, context=b"job")
    updated = replace(DOUBLE, cpu_svn=bytes([9] * 16))
    assert Sealer(sgx(updated), MODEL).open(sealed, context=b"job") == b"weights"
    newer = Sealer(sgx(updated), MODEL).seal(b"weights", size=100, context=b"job")
    with pytest.raises(OpenFailed):
        Sealer(sgx(), MODEL).open(newer, context=b"job")


def test_nobody_else_opens_it() -> None:
    sealed = Sealer(sgx(), MODEL).seal(b"weights", size=100, context=b"job")
    others = [
        Sealer(sgx(replace(DOUBLE, fuse=b"another processor")), MODEL),
        Sealer(sgx(replace(DOUBLE, debug=True)), MODEL),
        Sealer(sgx(), CHECKPOINT),
        Sealer(RefusingPlatform(), MODEL),
    ]
    for other in others:
        with pytest.raises(OpenFailed):
            other.open(sealed, context=b"job")
    with pytest.raises(OpenFailed):
        Sealer(sgx(), MODEL).open(sealed, context=b"another job")


def test_development_tee_seals_and_refuses_what_sgx_sealed(tmp_path: Path) -> None:
    quoting = QuotingServices(tmp_path)
    here = Sealer(quoting.platform(EnclaveIdentity(b"\x01" * 32)), MODEL)
    there = Sealer(quoting.platform(EnclaveIdentity(b"\x02" * 32)), MODEL)
    sealed = here.seal(b"weights", size=100, context=b"job")
    assert here.open(sealed, context=b"job") == b"weights"
    with pytest.raises(OpenFailed):
        there.open(sealed, context=b"job")
    with pytest.raises(OpenFailed):
        here.open(Sealer(sgx(), MODEL).seal(b"weights", size=100, context=b"job"), context=b"job")
    quoting.close()


def test_content_that_exceeds_its_public_size_is_refused() -> None:
    with pytest.raises(TooLarge):
        Sealer(sgx(), MODEL).seal(b"x" * 101, size=100, context=b"job")


SEALED = Sealer(sgx(), MODEL).seal(b"weights", size=100, context=b"job")


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, len(SEALED) - 1), mask=st.integers(1, 255))
def test_altered_object_never_opens_to_something_else(place: int, mask: int) -> None:
    altered = bytearray(SEALED)
    altered[place] ^= mask
    with pytest.raises(OpenFailed):
        Sealer(sgx(), MODEL).open(bytes(altered), context=b"job")


@settings(max_examples=50, deadline=None)
@given(head=st.binary(max_size=300))
def test_garbage_does_not_open(head: bytes) -> None:
    for garbage in (head, (SEALED_MAGIC + head).ljust(len(SEALED), b"\xff")):
        with pytest.raises(OpenFailed):
            Sealer(sgx(), MODEL, bytes(32)).open(garbage, context=b"job")


def test_a_machines_key_is_the_same_after_the_processors_update() -> None:
    """What others have sealed to it opens, by the recipe that it was told with."""
    told, share = own_key(sgx()), b"\x5a" * 32
    elsewhere = sgx(replace(DOUBLE, fuse=b"another processor"))
    sealed = Sealer(elsewhere, MODEL, share, machines=[told]).seal(b"weights", size=100, context=b"job")
    updated = sgx(replace(DOUBLE, cpu_svn=bytes([9] * 16)))
    assert Sealer(updated, MODEL, share).open(sealed, context=b"job") == b"weights"
    assert own_key(updated).public_key != told.public_key


class _Watched(bytes):
    """Notices how much of it is read."""

    read = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.read += len(found) if isinstance(index, slice) else 1
        return found


def test_attack_a_wrong_share_costs_no_more_than_the_wrapped_key_however_large_the_object_is() -> None:
    content = bytes(10**6)
    sealed = _Watched(seal_blob(b"k" * 32, content, size=len(content), label=MODEL, context=b"job"))
    with pytest.raises(OpenFailed):
        open_blob(b"w" * 32, sealed, label=MODEL, context=b"job")
    assert sealed.read < OVERHEAD_BYTES
    assert open_blob(b"k" * 32, sealed, label=MODEL, context=b"job") == content
