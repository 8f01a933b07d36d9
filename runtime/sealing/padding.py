"""Padding to a public size, so that a ciphertext's length says nothing."""

from chiron.runtime.errors import PaddingInvalid, TooLarge

LENGTH_BYTES = 8


def pad(content: bytes, size: int) -> bytes:
    """The bytes of `padded_buffer`."""
    return bytes(padded_buffer(content, size))


def padded_buffer(content: bytes | bytearray, size: int) -> bytearray:
    """Length (8 bytes, little-endian), content, zeros: exactly `size` bytes.

    Raises:
        TooLarge: the content does not fit.
    """
    if len(content) + LENGTH_BYTES > size:
        raise TooLarge("the content exceeds its public size")
    padded = bytearray(size)
    padded[:LENGTH_BYTES] = len(content).to_bytes(LENGTH_BYTES, "little")
    padded[LENGTH_BYTES : LENGTH_BYTES + len(content)] = content
    return padded


def unpad(padded: bytes) -> bytes:
    """The content that `pad` padded.

    Raises:
        PaddingInvalid: the length does not fit or the tail is not zero.
    """
    length = int.from_bytes(padded[:LENGTH_BYTES], "little")
    end = LENGTH_BYTES + length
    if len(padded) < LENGTH_BYTES or end > len(padded) or padded.count(0, end) != len(padded) - end:
        raise PaddingInvalid("the padding is not ours")
    return padded[LENGTH_BYTES:end]
