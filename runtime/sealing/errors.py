"""Errors of sealing.

SealingError
├── OpenFailed          wrong key, label or context, or altered ciphertext (which, is not told)
├── PaddingInvalid      the padded plaintext is not one
└── TooLarge            the content does not fit its public size
"""

from chiron.wire.errors import ChironError


class SealingError(ChironError):
    """Base of all; `code` is stable."""

    code = "sealing-failed"


class OpenFailed(SealingError):
    """The ciphertext does not open under this key, label and context."""

    code = "open-failed"


class PaddingInvalid(SealingError):
    """The plaintext is not padded as `pad` pads."""

    code = "padding-invalid"


class TooLarge(SealingError):
    """The content exceeds the public size it must be padded to."""

    code = "content-too-large"
