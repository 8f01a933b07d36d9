"""Sealing to this very enclave and its owner's share: models and checkpoints in the operator's storage.

The key is derived from two halves: the platform's sealing key, and 32 bytes that only the data owner keeps.
So whoever has the processor opens nothing without her; and when her share is destroyed, nobody ever does.

A sealed object is a recipe and a blob. The recipe finds the platform's sealing key again. It needs no
protection of its own: with another one the platform derives another key, and the blob does not open.
Layout: recipe length (1 byte), recipe padded to `RECIPE_BYTES`, blob.

In the blob a random 256-bit key encrypts the padded content and is itself wrapped under the sealing key,
so that a platform key encrypts few short messages only.
Layout: magic (8), wrap nonce (12), wrapped key (48), ciphertext.
"""

import secrets
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chiron.runtime.attestation.platform import Platform, SealingPolicy
from chiron.runtime.errors import OpenFailed, PlatformUnavailable
from chiron.runtime.sealing.padding import LENGTH_BYTES, padded_buffer, unpad
from chiron.wire.labels import OWNER_SHARE, Label, bind

Buffer: TypeAlias = bytes | bytearray
MAGIC = b"CHIRONb1"
_NONCE_BYTES = 12
_WRAPPED_BYTES = 32 + 16
_HEADER_BYTES = len(MAGIC) + _NONCE_BYTES + _WRAPPED_BYTES
_TAG_BYTES = 16
BLOB_OVERHEAD_BYTES = _HEADER_BYTES + LENGTH_BYTES + _TAG_BYTES
RECIPE_BYTES = 64
OVERHEAD_BYTES = 1 + RECIPE_BYTES + BLOB_OVERHEAD_BYTES


class Sealer:
    """Seals for one purpose to this measurement (or signer) on this platform, and to an owner's share."""

    def __init__(
        self,
        platform: Platform,
        label: Label,
        share: bytes | None = None,
        policy: SealingPolicy = SealingPolicy.MEASUREMENT,
    ) -> None:
        """Without a `share`, this processor and code open by themselves what is sealed."""
        self._platform = platform
        self._label = label
        self._share = share
        self._policy = policy

    def seal(self, content: Buffer, *, size: int, context: bytes) -> bytes:
        """The sealed object: `size + OVERHEAD_BYTES` bytes, whatever the content's length.

        Raises:
            TooLarge: the content exceeds `size`.
            PlatformUnavailable: the platform gave no key.
        """
        recipe = self._platform.sealing_recipe()
        key = self._key(recipe)
        prefix = bytes([len(recipe)]) + recipe.ljust(RECIPE_BYTES, b"\0")
        return seal_blob(key, content, size=size, label=self._label, context=context, prefix=prefix)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """The content that `seal` sealed here for this purpose and context.

        Raises:
            OpenFailed: it was not, or was altered, or the platform cannot derive its key.
        """
        if len(sealed) < OVERHEAD_BYTES or sealed[0] > RECIPE_BYTES:
            raise OpenFailed("not a sealed object")
        recipe = sealed[1 : 1 + sealed[0]]
        try:
            key = self._key(recipe)
        except PlatformUnavailable as error:
            raise OpenFailed("the platform derives no key for this object") from error
        with memoryview(sealed)[1 + RECIPE_BYTES :] as blob:
            return open_blob(key, blob, label=self._label, context=context)

    def _key(self, recipe: bytes) -> bytes:
        key = self._platform.sealing_key(self._policy, self._label, recipe)
        if self._share is None:
            return key
        info = bind(OWNER_SHARE, self._label)
        return HKDF(algorithm=SHA256(), length=32, salt=self._share, info=info).derive(key)


def seal_blob(
    sealing_key: bytes, content: Buffer, *, size: int, label: Label, context: bytes, prefix: bytes = b""
) -> bytes:
    """`prefix`, then `content` padded and sealed: `size + BLOB_OVERHEAD_BYTES` bytes.

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


def open_blob(sealing_key: bytes, sealed: bytes | memoryview, *, label: Label, context: bytes) -> bytes:
    """The content that `seal_blob` sealed under this key, label and context.

    With another key no more is read than the wrapped key, however large the object is.

    Raises:
        OpenFailed: it was not, or was altered.
    """
    if len(sealed) < BLOB_OVERHEAD_BYTES or sealed[: len(MAGIC)] != MAGIC:
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
