"""Sealing to this very enclave: a blob under the platform's sealing key, and the recipe that finds it again.

Layout: recipe length (1 byte), recipe padded to `RECIPE_BYTES`, blob. The recipe needs no protection of its
own: with another one the platform derives another key, and the blob does not open.
"""

from chiron.runtime.attestation.errors import PlatformUnavailable
from chiron.runtime.attestation.platform import Platform, SealingPolicy
from chiron.runtime.sealing import blob
from chiron.runtime.sealing.errors import OpenFailed
from chiron.wire.labels import Label

RECIPE_BYTES = 64
OVERHEAD_BYTES = 1 + RECIPE_BYTES + blob.OVERHEAD_BYTES


class Sealer:
    """Seals for one purpose to this measurement (or signer) on this platform."""

    def __init__(
        self, platform: Platform, label: Label, policy: SealingPolicy = SealingPolicy.MEASUREMENT
    ) -> None:
        self._platform = platform
        self._label = label
        self._policy = policy

    def seal(self, content: blob.Buffer, *, size: int, context: bytes) -> bytes:
        """`size + OVERHEAD_BYTES` bytes, whatever the content's length.

        Raises:
            TooLarge: the content exceeds `size`.
            PlatformUnavailable: the platform gave no key.
        """
        recipe = self._platform.sealing_recipe()
        key = self._platform.sealing_key(self._policy, self._label, recipe)
        prefix = bytes([len(recipe)]) + recipe.ljust(RECIPE_BYTES, b"\0")
        return blob.seal(key, content, size=size, label=self._label, context=context, prefix=prefix)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """What `seal` sealed here for this purpose and context.

        Raises:
            OpenFailed: it was not, or was altered, or the platform cannot derive its key.
        """
        if len(sealed) < OVERHEAD_BYTES or sealed[0] > RECIPE_BYTES:
            raise OpenFailed("not a sealed object")
        recipe = sealed[1 : 1 + sealed[0]]
        try:
            key = self._platform.sealing_key(self._policy, self._label, recipe)
        except PlatformUnavailable as error:
            raise OpenFailed("the platform derives no key for this object") from error
        return blob.open(key, sealed[1 + RECIPE_BYTES :], label=self._label, context=context)
