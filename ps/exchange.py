"""What both kinds of exchange have in common: their interface, what they answer, how they take changes in."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chiron.ps.codec import Header
from chiron.ps.errors import ExchangeRefused
from chiron.ps.streams import Body
from chiron.ps.vectors import Frame, RunningNorm, as_bytes, new_frame
from chiron.wire.exchange import ExchangeSpec

Persist: TypeAlias = Callable[[], Awaitable[None]]
"""Awaited after every merge and publication, before anyone is told of it: the place to write a checkpoint."""


@dataclass(frozen=True)
class Result:
    """A MERGED frame in parts. `payload` is the server's own memory, so it is sent only while `valid()`."""

    header: Header
    sums: NDArray[np.float64]
    payload: Frame
    valid: Callable[[], bool]


@dataclass(frozen=True)
class Entry:
    """What a trainer begins a trial from, or takes up in the middle of one."""

    exchange: int
    """The number of its next exchange."""
    payload: Frame
    valid: Callable[[], bool]


class Exchange(Protocol):
    """One way for trainers to meet: with a barrier (`Barrier`), or without (`Asynchronous`)."""

    @property
    def next(self) -> int:
        """The lowest exchange that is not merged yet."""
        ...

    async def push(self, trainer: int, header: Header, sums: NDArray[np.float64], body: Body) -> Result:
        """Take a trainer's change and wait for the vector it goes on with."""
        ...

    @property
    def state(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a checkpoint holds of it, as of the last merge: the live memory itself."""
        ...

    def restored(self) -> None:
        """The arrays in `state` were given the content of a checkpoint."""
        ...

    def knows(self, trainer: int, merged: int) -> bool:
        """Whether that many of the trainer's exchanges are merged here: if not, we were rolled back."""
        ...

    async def enter(self, trainer: int) -> Entry:
        """The vector that a trainer starts from now."""
        ...

    async def reached(self, number: int) -> None:
        """Wait until `next` is at least `number`."""
        ...

    async def settled(self) -> None:
        """Wait until no exchange is under way, so that the next trial may begin."""
        ...


def finite_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """`sums` with every entry that is not finite as 0: one trainer's NaN must not become everybody's."""
    return np.where(np.isfinite(sums), sums, 0.0)


@dataclass(frozen=True)
class Change:
    """A trainer's change as received in full."""

    frame: Frame
    norm: float
    """Not finite where any element is not."""


class Uploads:
    """Receives changes: one buffer a trainer, and at most one connection at a time that writes into it.

    A buffer is made at its trainer's first change and used ever after.
    """

    def __init__(self, spec: ExchangeSpec) -> None:
        self._shape = spec.parameters
        self._narrow = spec.dtype == "bfloat16"
        self._frames: dict[int, Frame] = {}
        self._writers: dict[int, Body] = {}
        self._versions: dict[int, int] = {}

    def frame(self, trainer: int) -> Frame:
        """The trainer's buffer."""
        if trainer not in self._frames:
            self._frames[trainer] = new_frame(self._shape, narrow=self._narrow)
        return self._frames[trainer]

    async def receive(self, trainer: int, body: Body) -> Change:
        """Read one change into its trainer's buffer.

        A trainer that comes again while an earlier upload of it hangs (a half-open connection) takes over:
        the earlier connection is broken off before a byte of the new one is written.

        Raises:
            FrameInvalid: the body ended early.
            ExchangeRefused: a later connection of the same trainer took over.
        """
        frame = self.take(trainer)
        self._writers[trainer] = body
        try:
            norm = RunningNorm(frame)
            await body.into(as_bytes(frame), norm.advance)
            if self._writers.get(trainer) is not body:
                raise ExchangeRefused("upload-replaced", "the trainer came back on another connection")
        finally:
            if self._writers.get(trainer) is body:
                del self._writers[trainer]
        return Change(frame, norm.value)

    def take(self, trainer: int) -> Frame:
        """The trainer's buffer for new content; whoever still writes into it or sends from it is cut off."""
        if (former := self._writers.pop(trainer, None)) is not None:
            former.abort()
        self._versions[trainer] = self.version(trainer) + 1
        return self.frame(trainer)

    def version(self, trainer: int) -> int:
        """Counts the times that the trainer's buffer was taken for a new change."""
        return self._versions.get(trainer, 0)
