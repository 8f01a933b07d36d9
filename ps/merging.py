"""Many changes into one: weighted mean, median or trimmed mean, over blocks that fit a CPU's cache.

A change that is not finite (a trainer diverged, or its memory failed) must not poison the others. It is set
aside here, whole, before anything is merged; that alters neither size nor time of any message, so the host
sees the same trace, and the count of set-aside changes travels to the trainers for the owner's report.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chiron.ps.bfloat16 import widen
from chiron.wire.exchange import ExchangeSpec, MergeRule

BLOCK = 32_768
"""Elements merged at a time: 128 KiB a vector, so a block of every operand stays in the L2 cache."""

Frame: TypeAlias = NDArray[np.float32] | NDArray[np.uint16]
"""One trainer's change as it travelled: float32 values, or bfloat16 bit patterns."""


def new_frame(elements: int, *, narrow: bool) -> Frame:
    """Memory for one change as it travels; `narrow` means bfloat16."""
    return np.zeros(elements, np.uint16) if narrow else np.zeros(elements, np.float32)


@dataclass(frozen=True)
class Contribution:
    """One trainer's change, ready to be merged."""

    frame: Frame
    weight: float
    """Relative to the other contributions; need not add up to anything."""
    scale: float = 1.0
    """What norm clipping multiplies the change by, at most 1."""


def blocks(elements: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive slices of at most `size` elements that cover a vector of `elements`."""
    for start in range(0, elements, size):
        yield slice(start, min(start + size, elements))


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
                values = _as_float32(self._frame[self._block], self._scratch)
                self._total += float(np.dot(values, values))
                self._block = next(self._blocks, None)

    @property
    def value(self) -> float:
        """Of all that was taken in; not finite where any element is not, or is beyond 1e19 in magnitude.

        A finite norm therefore bounds every element far enough below float32's largest that no sum of changes
        over a whole job can overflow.
        """
        return math.sqrt(self._total) if self._total >= 0 else math.nan


def euclidean_norm(frame: Frame) -> float:
    """Norm of a change that is there; see `RunningNorm.value`."""
    norm = RunningNorm(frame)
    norm.advance(frame.nbytes)
    return norm.value


def clip_scale(norm: float, spec: ExchangeSpec) -> float:
    """Factor that brings a change of `norm` within the spec's bound."""
    if spec.clip_norm is None or norm <= spec.clip_norm:
        return 1.0
    return spec.clip_norm / norm


class Combiner:
    """Merges the same block of every contribution; holds its scratch memory between blocks."""

    def __init__(self, contributions: Sequence[Contribution], rule: MergeRule, trim: int) -> None:
        """`contributions`, at least one, are merged in the order given, so equal input gives equal bits."""
        self._contributions = contributions
        self._rule = rule
        self._trim = min(trim, (len(contributions) - 1) // 2)
        total = math.fsum(contribution.weight for contribution in contributions)
        self._factors = [np.float32(c.weight * c.scale / total) for c in contributions]
        self._scratch = np.empty(BLOCK, np.float32)
        self._columns = np.empty((0, 0), np.float32)
        if rule is not MergeRule.MEAN:
            self._columns = np.empty((BLOCK, len(contributions)), np.float32)

    def merge(self, part: slice, out: NDArray[np.float32]) -> None:
        """Write the merged change of the elements in `part` into `out`, float32 of that length."""
        if self._rule is MergeRule.MEAN:
            self._mean(part, out)
        else:
            self._robust(part, out)

    def _mean(self, part: slice, out: NDArray[np.float32]) -> None:
        scratch = self._scratch[: len(out)]
        for position, (contribution, factor) in enumerate(
            zip(self._contributions, self._factors, strict=True)
        ):
            values = _as_float32(contribution.frame[part], scratch)
            if position == 0:
                np.multiply(values, factor, out=out)
            else:
                np.multiply(values, factor, out=scratch)
                out += scratch

    def _robust(self, part: slice, out: NDArray[np.float32]) -> None:
        columns = self._columns[: len(out)]
        scratch = self._scratch[: len(out)]
        for column, contribution in enumerate(self._contributions):
            values = _as_float32(contribution.frame[part], scratch)
            np.multiply(values, np.float32(contribution.scale), out=columns[:, column])
        columns.sort(axis=1)
        count = columns.shape[1]
        trim = self._trim if self._rule is MergeRule.TRIMMED_MEAN else (count - 1) // 2
        np.mean(columns[:, trim : count - trim], axis=1, out=out)


def _as_float32(values: Frame, scratch: NDArray[np.float32]) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return values  # type: ignore[return-value]
    widened = scratch[: len(values)]
    widen(values, widened)  # type: ignore[arg-type]
    return widened
