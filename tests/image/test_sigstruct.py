"""SIGSTRUCT out of a signed enclave: one that was constructed here, as no Occlum runs here."""

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.cli.application import main
from chiron.enclave_image.errors import SigstructInvalid
from chiron.enclave_image.sigstruct import SIGNED_ENCLAVE, SIZE, find, parse, read_instance

MRENCLAVE = hashlib.sha256(b"an enclave").digest()


@cache
def author() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def sigstruct(mrenclave: bytes = MRENCLAVE, *, debug: bool = False) -> bytes:
    """As Intel's table lays it out, each offset written down once more here."""
    raw = bytearray(SIZE)
    raw[0:16] = bytes.fromhex("06000000E10000000000010000000000")
    raw[20:24] = (0x20261125).to_bytes(4, "little")
    raw[24:40] = bytes.fromhex("01010000600000006000000001000000")
    modulus = author().public_key().public_numbers().n.to_bytes(384, "little")
    raw[128:512] = modulus
    raw[512:516] = (3).to_bytes(4, "little")
    raw[928] = 0x4 | (0x2 if debug else 0)
    raw[960:992] = mrenclave
    raw[1024:1026] = (7).to_bytes(2, "little")
    raw[1026:1028] = (3).to_bytes(2, "little")
    signature = author().sign(bytes(raw[0:128] + raw[900:1028]), padding.PKCS1v15(), SHA256())
    raw[516:900] = signature[::-1]
    return bytes(raw)


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    path = tmp_path / SIGNED_ENCLAVE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x7fELF" + bytes(5000) + sigstruct() + bytes(300))
    return tmp_path


def test_built_instance_tells_what_its_evidence_will_show(instance: Path) -> None:
    signed = read_instance(instance)
    modulus = author().public_key().public_numbers().n.to_bytes(384, "little")
    assert (signed.mrenclave, signed.product_id, signed.svn) == (MRENCLAVE.hex(), 7, 3)
    assert signed.mrsigner == hashlib.sha256(modulus).hexdigest()
    assert not signed.debug
    assert parse(sigstruct(debug=True)).debug


def test_copies_that_agree_are_one_and_those_that_differ_are_refused() -> None:
    assert find(sigstruct() + bytes(99) + sigstruct()).mrenclave == MRENCLAVE.hex()
    with pytest.raises(SigstructInvalid, match="2 enclaves"):
        find(sigstruct() + sigstruct(bytes(32)))


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(4000), sigstruct()[:-1]])
def test_file_without_a_signed_enclave_is_refused(content: bytes) -> None:
    with pytest.raises(SigstructInvalid):
        find(content)


SIGNED = [*range(16, 128), *range(900, 1028)]
"""Behind the first header, by which it is found, all that is signed; then the key and the signature."""


@settings(max_examples=60, deadline=None)
@given(place=st.sampled_from([*SIGNED, *range(128, 900)]), change=st.integers(1, 255))
def test_one_changed_byte_is_refused(place: int, change: int) -> None:
    raw = bytearray(sigstruct())
    raw[place] ^= change
    with pytest.raises(SigstructInvalid):
        find(bytes(raw))


def test_command_tells_mrenclave_and_says_that_there_is_no_instance(
    instance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "measure", "--occlum", str(instance)]) == 0
    assert capsys.readouterr().out == f"{MRENCLAVE.hex()}\n{read_instance(instance).mrsigner}\n"
    assert main(["image", "measure", "--occlum", str(instance), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["product_id"] == 7
    assert main(["image", "measure", "--occlum", str(instance / "nowhere")]) == 1
    assert "[sigstruct-invalid]" in capsys.readouterr().err
