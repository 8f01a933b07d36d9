"""The vector that all trainers share, with the outer optimizer's state; every change is made in place.

Held per server: the vector; one more that is the momentum within a trial and the initial vector of the next
between trials; for bfloat16 two of half the size, the step last sent and the rounding error still owed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chiron.ps.bfloat16 import narrow, widen
from chiron.ps.merging import BLOCK, Combiner, Contribution, blocks
from chiron.wire.exchange import ExchangeMode, ExchangeSpec


class SharedVector:
    """float32 [parameters]. `generation` counts the times its content changed."""

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
