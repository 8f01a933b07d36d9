"""What one trainer is answered to its push."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chiron.ps.codec import Header
from chiron.ps.merging import Frame
from chiron.ps.streams import Body

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
    """One way for trainers to meet."""

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
