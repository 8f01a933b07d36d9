"""Sealing to this very enclave and its owner's share: models and checkpoints in the operator's storage.

The key is derived from two halves: a secret that only this code on certain machines opens, and 32 bytes that
only the data owner keeps. So whoever has such a machine opens nothing without her; and when her share is
destroyed, nobody ever does.

1. The secret is random, one for each object. For the machine that seals it is encrypted under the platform's
   sealing key; for each machine besides that the owner has named, sealed by HPKE to that machine's key.
2. Secret and share make the key of the blob (HKDF-SHA256).
3. In the blob a random 256-bit key encrypts the padded content and is itself wrapped under the blob's key.

Anybody can seal a secret to a machine's public key. That it is none of a stranger's, only the blob shows,
whose key needs the share: so what has no share is for the machine that sealed it alone.

Layout: magic (8), our entry, `MAX_MACHINES` places for others' entries (all zero where there is none), blob.
An entry: recipe length (1 byte), recipe padded to `MAX_RECIPE_BYTES`, the secret. The recipe finds the
platform's sealing key again. The blob is bound to all that is before it.
Blob: magic (8), wrap nonce (12), wrapped key (48), ciphertext.
"""

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chiron.runtime.attestation.platform import Platform, SealingPolicy
from chiron.runtime.errors import OpenFailed, PlatformUnavailable, SealedElsewhere
from chiron.runtime.sealing.machine_key import SEALED_BYTES, SECRET_BYTES, open_secret, seal_secret
from chiron.runtime.sealing.padding import LENGTH_BYTES, padded_buffer, unpad
from chiron.wire.labels import OWNER_SHARE, Label, bind
from chiron.wire.machines import MAX_MACHINES, MAX_RECIPE_BYTES, MachineKey

Buffer: TypeAlias = bytes | bytearray
MAGIC = b"CHIRONb1"
SEALED_MAGIC = b"CHIRONs2"
_NONCE_BYTES = 12
_WRAPPED_BYTES = 32 + 16
_HEADER_BYTES = len(MAGIC) + _NONCE_BYTES + _WRAPPED_BYTES
_TAG_BYTES = 16
BLOB_OVERHEAD_BYTES = _HEADER_BYTES + LENGTH_BYTES + _TAG_BYTES
_RECIPE_BYTES = 1 + MAX_RECIPE_BYTES
_OURS_BYTES = _RECIPE_BYTES + _NONCE_BYTES + _WRAPPED_BYTES
_PLACE_BYTES = _RECIPE_BYTES + SEALED_BYTES
_PLACES_AT = len(SEALED_MAGIC) + _OURS_BYTES
_BLOB_AT = _PLACES_AT + MAX_MACHINES * _PLACE_BYTES
OVERHEAD_BYTES = _BLOB_AT + BLOB_OVERHEAD_BYTES


class Sealer:
    """Seals for one purpose to this measurement (or signer) on this platform, and to an owner's share."""

    def __init__(
        self,
        platform: Platform,
        label: Label,
        share: bytes | None = None,
        policy: SealingPolicy = SealingPolicy.MEASUREMENT,
        machines: Sequence[MachineKey] = (),
    ) -> None:
        """Without a `share`, this processor and code open by themselves what is sealed, and nobody else does.

        `machines` are others on which this code opens it too, with the share.
        """
        self._platform = platform
        self._label = label
        self._share = share
        self._policy = policy
        self._machines = machines if share is not None else ()

    def seal(self, content: Buffer, *, size: int, context: bytes) -> bytes:
        """The sealed object: `size + OVERHEAD_BYTES` bytes, whatever the content and the machines.

        Raises:
            TooLarge: the content exceeds `size`.
            PlatformUnavailable: the platform gave no key.
            OpenFailed: a machine's key is not a valid one.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        places = b"".join(
            _recipe(machine.recipe) + seal_secret(machine, secret, self._label) for machine in self._machines
        )
        head = SEALED_MAGIC + self._ours(secret) + places.ljust(MAX_MACHINES * _PLACE_BYTES, b"\0")
        key, bound = self._key(secret), _bound(context, head)
        return seal_blob(key, content, size=size, label=self._label, context=bound, prefix=head)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """The content that `seal` sealed, here or for here, for this purpose and context.

        Raises:
            SealedElsewhere: this code on this machine has no part in the object's key.
            OpenFailed: it has; and it is the share, the purpose or the context that is another, or the object
                was altered.
        """
        if len(sealed) < OVERHEAD_BYTES or not sealed.startswith(SEALED_MAGIC):
            raise OpenFailed("not a sealed object")
        head = sealed[:_BLOB_AT]
        key = self._key(self._secret(head))
        with memoryview(sealed)[_BLOB_AT:] as blob:
            return open_blob(key, blob, label=self._label, context=_bound(context, head))

    def _secret(self, head: bytes) -> bytes:
        """The secret of an object's head, from our entry or the first place that is ours."""
        recipe, wrapped = _entry(head[len(SEALED_MAGIC) : _PLACES_AT])
        with suppress(OpenFailed, PlatformUnavailable):
            return self._opened(recipe, wrapped)
        places = range(_PLACES_AT, _BLOB_AT, _PLACE_BYTES) if self._share is not None else ()
        for at in places:
            recipe, wrapped = _entry(head[at : at + _PLACE_BYTES])
            with suppress(OpenFailed, PlatformUnavailable):
                if any(wrapped):
                    return open_secret(self._platform, recipe, wrapped, self._label)
        raise SealedElsewhere("the object is sealed to other code, or to other machines than this one")

    def _ours(self, secret: bytes) -> bytes:
        recipe, nonce = self._platform.sealing_recipe(), secrets.token_bytes(_NONCE_BYTES)
        key = self._platform.sealing_key(self._policy, self._label, recipe)
        return _recipe(recipe) + nonce + AESGCM(key).encrypt(nonce, secret, SEALED_MAGIC + self._label)

    def _opened(self, recipe: bytes, wrapped: bytes) -> bytes:
        key = self._platform.sealing_key(self._policy, self._label, recipe)
        nonce, ciphertext = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, ciphertext, SEALED_MAGIC + self._label)
        except InvalidTag as error:
            raise OpenFailed("not sealed under this platform's key") from error

    def _key(self, secret: bytes) -> bytes:
        if self._share is None:
            return secret
        info = bind(OWNER_SHARE, self._label)
        return HKDF(algorithm=SHA256(), length=32, salt=self._share, info=info).derive(secret)


def _bound(context: bytes, head: bytes) -> bytes:
    """The blob's context: no entry can be altered, added or taken away."""
    return hashlib.sha256(head).digest() + context


def _recipe(recipe: bytes) -> bytes:
    return bytes([len(recipe)]) + recipe.ljust(MAX_RECIPE_BYTES, b"\0")


def _entry(entry: bytes) -> tuple[bytes, bytes]:
    """Recipe and secret of an entry. A length that is too large gives a recipe of no platform."""
    return entry[1 : 1 + entry[0]], entry[_RECIPE_BYTES:]


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
