"""Bulk encryption in chunks: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015), as age uses it.

The nonce is an 11-byte big-endian chunk counter and one byte that is 1 for the last chunk. With a random key
for each stream no nonce repeats, and a chunk that was moved, dropped, repeated or cut off the end does not
open. The associated data keeps chunks of one stream out of another that has the same key.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chiron.runtime.errors import OpenFailed

KEY_BYTES = 32
TAG_BYTES = 16


def seal_chunk(key: bytes, number: int, plaintext: bytes, *, last: bool, associated_data: bytes) -> bytes:
    """Ciphertext of chunk `number` (from 0): as long as `plaintext` and `TAG_BYTES` more."""
    return AESGCM(key).encrypt(_nonce(number, last=last), plaintext, associated_data)


def open_chunk(key: bytes, number: int, ciphertext: bytes, *, last: bool, associated_data: bytes) -> bytes:
    """Plaintext of chunk `number`.

    Raises:
        OpenFailed: altered, of another place, stream or key, or not last where it must be.
    """
    try:
        return AESGCM(key).decrypt(_nonce(number, last=last), ciphertext, associated_data)
    except (InvalidTag, ValueError) as error:
        raise OpenFailed("the chunk is not the one that was sealed for this place") from error


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
