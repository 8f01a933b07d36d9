"""The root of every error that Chiron raises; each room's own tree is drawn in its `errors.py`.

Beside it is the one that every room may raise: something is too long.
"""


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
