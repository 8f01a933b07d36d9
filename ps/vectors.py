"""One vector and its parts: as it travels (float32 or bfloat16), in blocks, and how long it is.

bfloat16 is the upper half of a float32, rounded to nearest even.
"""

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BLOCK = 32_768
"""Elements worked on at a time: 128 KiB a vector, so a block of every operand stays in the L2 cache."""

_MAGNITUDE, _TINY = np.uint32(0x7FFFFFFF), np.uint32((127 - 63) << 23)
"""Of a float32's bits: all but the sign; and 2⁻⁶³."""

Frame: TypeAlias = NDArray[np.float32] | NDArray[np.uint16]
"""One trainer's change as it travelled: float32 values, or bfloat16 bit patterns."""


def new_frame(elements: int, *, narrow: bool) -> Frame:
    """Memory for one change as it travels; `narrow` means bfloat16."""
    return np.zeros(elements, np.uint16) if narrow else np.zeros(elements, np.float32)


def blocks(elements: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive slices of at most `size` elements that cover a vector of `elements`."""
    for start in range(0, elements, size):
        yield slice(start, min(start + size, elements))


def narrow(values: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    """Round finite `values` into `out`, bit patterns of the same length."""
    bits = values.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    np.copyto(out, rounded, casting="unsafe")


def widen(patterns: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Write the exact float32 values of bfloat16 bit patterns into `out`."""
    bits = out.view(np.uint32)
    np.copyto(bits, patterns)
    bits <<= np.uint32(16)


def as_float32(values: Frame, scratch: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` themselves, or widened into `scratch`, which is at least as long."""
    if values.dtype == np.float32:
        return values  # type: ignore[return-value]
    widened = scratch[: len(values)]
    widen(values, widened)  # type: ignore[arg-type]
    return widened


def clear_tiny(values: NDArray[np.float32]) -> None:
    """Make zero what is below 2⁻⁶³ in magnitude, in a time that does not depend on the values.

    Processors take many times as long for numbers that are denormal, or whose products are: how long a merge
    takes must not tell of what is merged.
    """
    for part in blocks(len(values)):
        bits = values[part].view(np.uint32)
        bits *= (bits & _MAGNITUDE) >= _TINY


class RunningNorm:
    """The norm of a change that arrives in pieces; its bits do not depend on where they end."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._scratch = np.empty(min(BLOCK, len(frame)), np.float32)
        self._blocks = blocks(len(frame))
        self._block = next(self._blocks, None)
        self._total = 0.0

    def advance(self, filled: int) -> None:
        """Take in the blocks that are whole now that `filled` bytes of the frame are there."""
        elements = filled // self._frame.itemsize
        with np.errstate(over="ignore", invalid="ignore"):
            while self._block is not None and self._block.stop <= elements:
                values = as_float32(self._frame[self._block], self._scratch)
                self._total += float(np.dot(values, values))
                self._block = next(self._blocks, None)

    @property
    def value(self) -> float:
        """The norm of all that was taken in; not finite where any element is not, or is beyond 1e19.

        A finite norm therefore bounds every element far enough below float32's largest that no sum of changes
        over a whole job can overflow.
        """
        return math.sqrt(self._total) if self._total >= 0 else math.nan


def euclidean_norm(frame: Frame) -> float:
    """The norm of a change that is there as a whole; not finite as `RunningNorm.value`."""
    norm = RunningNorm(frame)
    norm.advance(frame.nbytes)
    return norm.value


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The memory of a contiguous array, writable where the array is."""
    return array.view(np.uint8).data


def read_only(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A view of `array` that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
