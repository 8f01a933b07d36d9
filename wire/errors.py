"""The root of every error that Chiron raises; each room's own tree is drawn in its `errors.py`.

Beside it are the two that every room may raise: something is too long, or a package of an extra is missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ChironError(Exception):
    """Base of all; `code` is stable, the message is for people and holds no secret."""

    code = "chiron-failed"

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class LimitExceeded(ChironError):
    """What was read is longer than anything of its kind may be."""

    code = "limit-exceeded"

    def __init__(self, limit: int) -> None:
        super().__init__(f"longer than {limit} bytes")


class ExtraMissing(ChironError, ImportError):
    """Something was asked for that needs an extra of `chiron-ml` which is not installed."""

    code = "extra-missing"


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Goes around imports from packages that `extra` brings.

    >>> with needs_extra("images"):
    ...     from PIL import Image

    Raises:
        ExtraMissing: such a package is not installed. The message names it and the extra.
        ModuleNotFoundError: a module of our own is missing, for which no extra is the remedy.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "chiron"):
            raise
        raise ExtraMissing(f"{package} is not installed: pip install 'chiron-ml[{extra}]'") from error
