"""Many changes into one, and one step of the vector that all trainers share; every change is made in place.

Changes are merged by weighted mean, median or trimmed mean, over blocks that fit a CPU's cache.

A change that is not finite (a trainer diverged, or its memory failed) must not poison the others. It is set
aside, whole, before anything is merged. That alters neither size nor time of any message, so the host sees
the same trace, and the count of set-aside changes travels to the trainers for the owner's report.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiron.ps.vectors import BLOCK, Frame, as_float32, blocks, narrow, widen
from chiron.wire.exchange import ExchangeMode, ExchangeSpec, MergeRule


@dataclass(frozen=True)
class Contribution:
    """One trainer's change, ready to be merged."""

    frame: Frame
    weight: float
    """Relative to the other contributions; need not add up to anything."""
    scale: float = 1.0
    """What norm clipping multiplies the change by, at most 1."""


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
            values = as_float32(contribution.frame[part], scratch)
            if position == 0:
                np.multiply(values, factor, out=out)
            else:
                np.multiply(values, factor, out=scratch)
                out += scratch

    def _robust(self, part: slice, out: NDArray[np.float32]) -> None:
        columns = self._columns[: len(out)]
        scratch = self._scratch[: len(out)]
        for column, contribution in enumerate(self._contributions):
            values = as_float32(contribution.frame[part], scratch)
            np.multiply(values, np.float32(contribution.scale), out=columns[:, column])
        columns.sort(axis=1)
        count = columns.shape[1]
        trim = self._trim if self._rule is MergeRule.TRIMMED_MEAN else (count - 1) // 2
        np.mean(columns[:, trim : count - trim], axis=1, out=out)


class SharedVector:
    """The vector that all trainers share, float32 [parameters], with the outer optimizer's state.

    A second vector holds the momentum within a trial, and the next trial's initial vector between trials. For
    bfloat16 there are two more of half the size: the step last sent, and the rounding error still owed.
    `generation` counts the times that the vector's content changed.
    """

    def __init__(self, spec: ExchangeSpec) -> None:
        self._learning_rate = np.float32(1.0 if spec.mode is ExchangeMode.SYNC else spec.outer_learning_rate)
        self._momentum = np.float32(spec.outer_momentum if spec.mode is ExchangeMode.LOCAL else 0.0)
        self._rule = spec.merge
        self._trim = spec.trim
        self.vector = np.zeros(spec.parameters, np.float32)
        self.spare = np.zeros(spec.parameters, np.float32)
        """The momentum, or while `staged` the initial vector of a trial that has not merged yet."""
        self.staged = False
        narrow_elements = spec.parameters if spec.dtype == "bfloat16" else 0
        self.step = np.zeros(narrow_elements, np.uint16)
        """bfloat16 patterns of the last merge's step: what clients are sent."""
        self.owed = np.zeros(narrow_elements, np.uint16)
        """bfloat16 patterns of what rounding has kept back of all steps so far."""
        self.generation = 0

    @property
    def current(self) -> NDArray[np.float32]:
        """What a trainer that starts now must start from."""
        return self.spare if self.staged else self.vector

    @property
    def outgoing(self) -> NDArray[np.float32] | NDArray[np.uint16]:
        """What the last merge sends to clients: the vector itself, or its rounded step."""
        return self.step if len(self.step) else self.vector

    def merge(self, contributions: Sequence[Contribution]) -> None:
        """Merge `contributions` and take one outer step; without any, the vector stays as it is.

        The step is PyTorch's Nesterov SGD on the negated change: v = βv + g; x += η(g + βv).
        """
        self._change()
        if not contributions:
            self.step.fill(0)
            return
        combiner = Combiner(contributions, self._rule, self._trim)
        step = np.empty(min(BLOCK, len(self.vector)), np.float32)
        scratch = np.empty_like(step)
        for part in blocks(len(self.vector)):
            size = part.stop - part.start
            combiner.merge(part, step[:size])
            self._advance(part, step[:size], scratch[:size])

    def apply(self, contribution: Contribution) -> None:
        """Add one trainer's change by its own weight, without momentum: the `async` merge."""
        self._change()
        factor = np.float32(contribution.weight * contribution.scale) * self._learning_rate
        scratch = np.empty(min(BLOCK, len(self.vector)), np.float32)
        for part in blocks(len(self.vector)):
            change = np.multiply(contribution.frame[part], factor, out=scratch[: part.stop - part.start])
            self.vector[part] += change

    def _change(self) -> None:
        """The first merge of a trial is when its initial vector takes the place of the last trial's result.

        Until then a client whose connection broke could ask for that result again.
        """
        self.generation += 1
        if self.staged:
            self.vector, self.spare = self.spare, self.vector
            self.spare.fill(0)
            self.owed.fill(0)
            self.staged = False

    def _advance(self, part: slice, step: NDArray[np.float32], scratch: NDArray[np.float32]) -> None:
        """The outer step of one block; `step` comes in as the merged change."""
        if self._momentum:
            velocity = self.spare[part]
            velocity *= self._momentum
            velocity += step
            np.multiply(velocity, self._momentum, out=scratch)
            step += scratch
        step *= self._learning_rate
        if len(self.step):
            widen(self.owed[part], scratch)
            step += scratch
            narrow(step, self.step[part])
            widen(self.step[part], scratch)
            self.vector[part] += scratch
            np.subtract(step, scratch, out=scratch)
            narrow(scratch, self.owed[part])
        else:
            self.vector[part] += step
