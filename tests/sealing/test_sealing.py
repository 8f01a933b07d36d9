"""Sealing: what goes in comes out, and nothing else ever does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.errors import OpenFailed, PaddingInvalid, TooLarge
from chiron.runtime.sealing import hpke, stream
from chiron.runtime.sealing.padding import LENGTH_BYTES, pad, unpad
from chiron.runtime.sealing.sealer import BLOB_OVERHEAD_BYTES, open_blob, seal_blob
from chiron.wire.labels import ANSWER, CHECKPOINT, GRANT, MODEL

KEY = bytes(range(32))


def test_hpke_opens_only_with_its_key_label_and_context() -> None:
    key = hpke.PrivateKey.generate()
    sealed = hpke.seal(key.public_bytes, b"secret", label=GRANT, context=b"job")
    assert hpke.open(key, sealed, label=GRANT, context=b"job") == b"secret"
    restored = hpke.PrivateKey.from_bytes(key.private_bytes)
    assert hpke.open(restored, sealed, label=GRANT, context=b"job") == b"secret"
    for other_key, label, context in (
        (hpke.PrivateKey.generate(), GRANT, b"job"),
        (key, ANSWER, b"job"),
        (key, GRANT, b"another job"),
    ):
        with pytest.raises(OpenFailed):
            hpke.open(other_key, sealed, label=label, context=context)


@settings(max_examples=30)
@given(st.data())
def test_hpke_refuses_any_altered_ciphertext(data: st.DataObject) -> None:
    key = hpke.PrivateKey.generate()
    sealed = bytearray(hpke.seal(key.public_bytes, b"secret", label=GRANT, context=b""))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(OpenFailed):
        hpke.open(key, bytes(sealed), label=GRANT, context=b"")


@pytest.mark.parametrize("length", [0, 1215, 1217])
def test_hpke_refuses_a_public_key_of_another_length(length: int) -> None:
    with pytest.raises(OpenFailed):
        hpke.seal(bytes(length), b"", label=GRANT, context=b"")


def test_stream_known_answer() -> None:
    """Computed independently: AES-256-GCM (NIST SP 800-38D) with nonce 00..01 01."""
    sealed = stream.seal_chunk(KEY, 1, b"chunk", last=True, associated_data=b"ad")
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(KEY), modes.GCM(bytes(10) + b"\x01\x01")).encryptor()
    encryptor.authenticate_additional_data(b"ad")
    assert sealed == encryptor.update(b"chunk") + encryptor.finalize() + encryptor.tag


@pytest.mark.parametrize(
    ("number", "last", "associated_data"), [(0, False, b"ad"), (1, True, b"ad"), (1, False, b"other")]
)
def test_stream_refuses_a_chunk_out_of_place(number: int, last: bool, associated_data: bytes) -> None:
    sealed = stream.seal_chunk(KEY, 1, b"chunk", last=False, associated_data=b"ad")
    assert stream.open_chunk(KEY, 1, sealed, last=False, associated_data=b"ad") == b"chunk"
    with pytest.raises(OpenFailed):
        stream.open_chunk(KEY, number, sealed, last=last, associated_data=associated_data)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_padding_round_trips_at_exactly_its_size(content: bytes, slack: int) -> None:
    size = len(content) + LENGTH_BYTES + slack
    padded = pad(content, size)
    assert len(padded) == size
    assert unpad(padded) == content


def test_padding_refuses_what_it_did_not_make() -> None:
    with pytest.raises(TooLarge):
        pad(b"12345", LENGTH_BYTES + 4)
    for padded in (b"", b"\x01", pad(b"a", 20)[:-1] + b"\x01", (99).to_bytes(8, "little")):
        with pytest.raises(PaddingInvalid):
            unpad(padded)


@given(st.binary(max_size=64))
def test_sealed_objects_have_one_size_whatever_they_hold(content: bytes) -> None:
    sealed = seal_blob(KEY, content, size=64, label=MODEL, context=b"job")
    assert len(sealed) == 64 + BLOB_OVERHEAD_BYTES
    assert open_blob(KEY, sealed, label=MODEL, context=b"job") == content


def test_sealed_objects_open_only_in_their_place() -> None:
    sealed = seal_blob(KEY, b"weights", size=64, label=MODEL, context=b"job")
    attempts = (
        (bytes(32), sealed, MODEL, b"job"),
        (KEY, sealed, CHECKPOINT, b"job"),
        (KEY, sealed, MODEL, b"another"),
        (KEY, sealed[:-1], MODEL, b"job"),
        (KEY, b"", MODEL, b"job"),
    )
    for key, blob_bytes, label, context in attempts:
        with pytest.raises(OpenFailed):
            open_blob(key, blob_bytes, label=label, context=context)
