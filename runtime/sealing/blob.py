"""One sealed object for this enclave's measurement: models and checkpoints in the operator's storage.

A random 256-bit key encrypts the padded content and is itself wrapped under the platform's sealing key, so
that a platform key encrypts few short messages only. Layout: magic (8), wrap nonce (12), wrapped key (48),
ciphertext.
"""

import secrets
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chiron.runtime.sealing.errors import OpenFailed
from chiron.runtime.sealing.padding import LENGTH_BYTES, padded_buffer, unpad
from chiron.wire.labels import Label, bind

Buffer: TypeAlias = bytes | bytearray
MAGIC = b"CHIRONb1"
_NONCE_BYTES = 12
_WRAPPED_BYTES = 32 + 16
_HEADER_BYTES = len(MAGIC) + _NONCE_BYTES + _WRAPPED_BYTES
_TAG_BYTES = 16
OVERHEAD_BYTES = _HEADER_BYTES + LENGTH_BYTES + _TAG_BYTES


def seal(
    sealing_key: bytes, content: Buffer, *, size: int, label: Label, context: bytes, prefix: bytes = b""
) -> bytes:
    """Seal `content`, padded to `size` bytes: the result is `size + OVERHEAD_BYTES` long, after `prefix`.

    Besides content and result it holds one more buffer of that size at a time: checkpoints can be large.

    Raises:
        TooLarge: the content exceeds `size`.
    """
    associated_data = MAGIC + bind(label, context)
    content_key = secrets.token_bytes(32)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    wrapped = AESGCM(sealing_key).encrypt(nonce, content_key, associated_data)
    padded = padded_buffer(content, size + LENGTH_BYTES)
    head = prefix + MAGIC + nonce + wrapped
    sealed = bytearray(len(head) + len(padded) + _TAG_BYTES)
    sealed[: len(head)] = head
    with memoryview(sealed)[len(head) :] as ciphertext:
        # The content key is used once, so a zero nonce is as good as a random one.
        AESGCM(content_key).encrypt_into(bytes(_NONCE_BYTES), padded, associated_data, ciphertext)
    del padded
    return bytes(sealed)


def open(sealing_key: bytes, sealed: bytes, *, label: Label, context: bytes) -> bytes:  # noqa: A001 - blob.open
    """The content that `seal` sealed under this key, label and context.

    Raises:
        OpenFailed: it was not, or was altered.
    """
    if len(sealed) < OVERHEAD_BYTES or not sealed.startswith(MAGIC):
        raise OpenFailed("not a sealed object")
    associated_data = MAGIC + bind(label, context)
    nonce = sealed[len(MAGIC) : len(MAGIC) + _NONCE_BYTES]
    wrapped = sealed[len(MAGIC) + _NONCE_BYTES : _HEADER_BYTES]
    try:
        content_key = AESGCM(sealing_key).decrypt(nonce, wrapped, associated_data)
        padded = AESGCM(content_key).decrypt(bytes(_NONCE_BYTES), sealed[_HEADER_BYTES:], associated_data)
    except (InvalidTag, ValueError) as error:
        raise OpenFailed("the object is not sealed to this enclave for this purpose") from error
    return unpad(padded)
