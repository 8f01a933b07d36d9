"""Public-key sealing: HPKE (RFC 9180) base mode, MLKEM768-X25519 + HKDF-SHA256 + AES-256-GCM.

Hybrid post-quantum: what is recorded today stays closed if either of the two key exchanges holds.
"""

from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from chiron.runtime.errors import OpenFailed
from chiron.wire.labels import Label, bind

PUBLIC_KEY_BYTES = 1184 + 32
PRIVATE_KEY_BYTES = 64 + 32
OVERHEAD_BYTES = 1088 + 32 + 16
"""ML-KEM-768 ciphertext, ephemeral X25519 key and AES-GCM tag: what a sealed message is longer by."""
_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class PrivateKey:
    """A recipient's key pair. The parts are kept beside the pair as HPKE keys do not export themselves."""

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._mlkem = mlkem
        self._x25519 = x25519
        self.pair = MLKEM768X25519PrivateKey(mlkem, x25519)

    @classmethod
    def generate(cls) -> Self:
        """A fresh key pair."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The key pair that `private_bytes` wrote.

        Raises:
            OpenFailed: `raw` is not `PRIVATE_KEY_BYTES` long.
        """
        if len(raw) != PRIVATE_KEY_BYTES:
            raise OpenFailed("not an HPKE private key")
        return cls(
            MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(raw[_MLKEM_SEED_BYTES:]),
        )

    @property
    def private_bytes(self) -> bytes:
        """ML-KEM-768 seed and X25519 scalar, for the owner's own key store."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    @property
    def public_bytes(self) -> bytes:
        """ML-KEM-768 encapsulation key and X25519 public key: 1216 bytes."""
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()


def seal(public_key: bytes, plaintext: bytes, *, label: Label, context: bytes) -> bytes:
    """Encrypt `plaintext` to `public_key` (1216 bytes) for one purpose and context.

    Raises:
        OpenFailed: `public_key` is not a valid one.
    """
    return bytes(_SUITE.encrypt(plaintext, _public_key(public_key), info=bind(label, context)))


def open(private_key: PrivateKey, sealed: bytes, *, label: Label, context: bytes) -> bytes:  # noqa: A001 - hpke.open
    """Decrypt what `seal` made for this key, label and context.

    Raises:
        OpenFailed: it was not, or was altered.
    """
    try:
        return bytes(_SUITE.decrypt(sealed, private_key.pair, info=bind(label, context)))
    except (InvalidTag, ValueError) as error:
        raise OpenFailed("not sealed to this key for this purpose") from error


def _public_key(raw: bytes) -> MLKEM768X25519PublicKey:
    if len(raw) != PUBLIC_KEY_BYTES:
        raise OpenFailed("not an HPKE public key")
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:]),
        )
    except ValueError as error:
        raise OpenFailed("not an HPKE public key") from error
