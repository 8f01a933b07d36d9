"""Errors of the exchange.

ExchangeError                   has a stable `code`; none depends on a vector's values
├── FrameInvalid                the bytes are not a frame of this exchange's spec
├── ExchangeRefused             a well-formed frame at the wrong time, or from the wrong trainer
│   └── TrialOver               the trial it belongs to has ended; go on with the next
├── ServerFailed                the server could not merge or keep its state; it is about to end
├── CheckpointInvalid           the bytes are not a checkpoint of this exchange's spec
├── RolledBack                  the server came back with an older state than its checkpoints allow
└── ServerUnreachable           the connection stayed broken past its deadline
"""

from chiron.wire.errors import ChironError


class ExchangeError(ChironError):
    """Base of the exchange's errors; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


class FrameInvalid(ExchangeError):
    """The bytes are no frame of this spec: wrong size, magic, version, kind, type or field."""


class ExchangeRefused(ExchangeError):
    """The frame does not fit the state of the exchange."""


class TrialOver(ExchangeRefused):
    """The trainer fell so far behind that its trial ended without it."""


class ServerFailed(ExchangeError):
    """The server cannot go on: nobody is told a result that it could not keep."""


class CheckpointInvalid(ExchangeError):
    """The bytes are no checkpoint of this spec."""


class RolledBack(ExchangeError):
    """A restarted server's state is older than any checkpoint that may have been its last."""


class ServerUnreachable(ExchangeError):
    """The server did not answer before the deadline."""
