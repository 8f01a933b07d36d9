"""AdamW and SGD over flat vectors, in place, and the learning rate of a step.

A block of all vectors fits the outer caches and is worked through before the next is touched, so that a step
costs about one pass over memory, whatever the number of operations (docs/benchmarks.md).
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chiron.ps.vectors import blocks
from chiron.runtime.training.layout import Vector
from chiron.runtime.training.masking import kept
from chiron.wasm_sandbox.recipe import AdamW, Constant, Cosine, OneCycle, Recipe, Sgd, Step

BLOCK = 65_536
"""Elements worked on at a time. In smaller blocks the calls themselves take longer than the caches save."""
_DOT_BLOCK = 8_192
"""BLAS shares the product of longer vectors among threads; a trainer has one."""


class OptimizerState(Protocol):
    """An optimizer with its moments."""

    def update(self, vector: Vector, gradient: Vector, learning_rate: float) -> None:
        """One step on `vector`, in place; `gradient` may be used as scratch."""

    def moments(self) -> Sequence[Vector]:
        """The arrays to keep in order to go on from here. A restore writes to them."""


class AdamWState:
    """AdamW: arXiv:1711.05101, algorithm 2 with bias correction, as in PyTorch.

    The moments are kept without their factors (1 − β), which are folded into the step's size: a third fewer
    passes. `steps` counts updates.
    """

    def __init__(self, settings: AdamW, elements: int, decayed: Sequence[slice], trainers: int = 1) -> None:
        """With several trainers each has its share of a batch, and their changes are averaged.

        Adam divides by the gradient's deviation, which in a share is √trainers times the whole batch's. So
        the step is as many times larger, and drift and noise of the average are those of one trainer: the
        square root rule of arXiv:2205.10287.
        """
        self._settings = settings
        self._decayed = decayed
        self._scale = math.sqrt(trainers)
        self._mean = np.zeros(elements, np.float32)
        """Σ β₁ᵏ g: the first moment over 1 − β₁."""
        self._square = np.zeros(elements, np.float32)
        """Σ β₂ᵏ g²: the second moment over 1 − β₂."""
        self._steps = np.zeros(1, np.float32)
        self._scratch = np.empty(BLOCK, np.float32)

    def moments(self) -> Sequence[Vector]:
        """Mean, square, number of updates."""
        return (self._mean, self._square, self._steps)

    def update(self, vector: Vector, gradient: Vector, learning_rate: float) -> None:
        """One step."""
        chosen = self._settings
        self._steps += 1
        steps = float(self._steps[0])
        first, second = 1 - chosen.beta1**steps, 1 - chosen.beta2**steps
        root = math.sqrt((1 - chosen.beta2) / second)
        rate = np.float32(self._scale * learning_rate * (1 - chosen.beta1) / first / root)
        epsilon = np.float32(chosen.epsilon / root)
        beta1, beta2 = np.float32(chosen.beta1), np.float32(chosen.beta2)
        for span in self._decayed:
            vector[span] *= np.float32(1 - learning_rate * chosen.weight_decay)
        for block in blocks(len(vector), BLOCK):
            g, m, v = gradient[block], self._mean[block], self._square[block]
            s = self._scratch[: len(g)]
            m *= beta1
            m += g
            np.multiply(g, g, out=g)
            v *= beta2
            v += g
            np.sqrt(v, out=s)
            s += epsilon
            np.divide(m, s, out=s)
            s *= rate
            vector[block] -= s


class SgdState:
    """SGD with momentum, without dampening, and Nesterov's variant, as in PyTorch."""

    def __init__(self, settings: Sgd, elements: int, decayed: Sequence[slice]) -> None:
        self._settings = settings
        self._decayed = decayed
        self._velocity = np.zeros(elements if settings.momentum else 0, np.float32)

    def moments(self) -> Sequence[Vector]:
        """The velocity."""
        return (self._velocity,)

    def update(self, vector: Vector, gradient: Vector, learning_rate: float) -> None:
        """One step."""
        settings = self._settings
        if settings.weight_decay:
            for span in self._decayed:
                gradient[span] += np.float32(settings.weight_decay) * vector[span]
        for block in blocks(len(vector), BLOCK):
            self._block(vector[block], gradient[block], block, learning_rate)

    def _block(self, w: Vector, g: Vector, block: slice, learning_rate: float) -> None:
        momentum = np.float32(self._settings.momentum)
        if momentum:
            velocity = self._velocity[block]
            velocity *= momentum
            velocity += g
            if self._settings.nesterov:
                g += momentum * velocity
            else:
                g[...] = velocity
        g *= np.float32(learning_rate)
        w -= g


def optimizer_state(
    settings: AdamW | Sgd, elements: int, decayed: Sequence[slice], trainers: int = 1
) -> OptimizerState:
    """A fresh state of one of `trainers`; weight decay is for the spans `decayed` only."""
    if isinstance(settings, AdamW):
        return AdamWState(settings, elements, decayed if settings.weight_decay else (), trainers)
    return SgdState(settings, elements, decayed)


def squared_norm(gradient: Vector) -> float:
    """Sum of squares: float32 within a block, float64 over them; inf or NaN if an element is."""
    with np.errstate(over="ignore", invalid="ignore"):
        parts = (gradient[block] for block in blocks(len(gradient), _DOT_BLOCK))
        return sum(float(np.dot(part, part)) for part in parts)


def clip(gradient: Vector, norm: float | None, value: float | None, squared: float) -> None:
    """Bound the elements, then the global norm, in place; `squared` is the sum of squares before.

    The gradient is multiplied also where its norm is within the bound, by 1: that it was is not to be seen.
    """
    if value is not None:
        np.clip(gradient, -value, value, out=gradient)
        squared = squared_norm(gradient) if norm is not None else squared
    if norm is not None:
        measured = np.array([squared])
        over = (measured > norm * norm).astype(np.float64)
        gradient *= (over * (norm / (np.sqrt(measured) + 1e-6)) + (1 - over)).astype(np.float32)


def average(mean: Vector, vector: Vector, decay: float, counts: NDArray[np.bool_]) -> None:
    """Exponential moving average, in place: mean ← decay·mean + (1 − decay)·vector, where it `counts` [1]."""
    scratch: NDArray[np.float32] = np.empty(min(BLOCK, len(vector)), np.float32)
    for block in blocks(len(vector), BLOCK):
        part = scratch[: block.stop - block.start]
        np.subtract(vector[block], mean[block], out=part)
        part *= np.float32(1 - decay)
        mean[block] += kept(counts, part)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) of `steps`: linear warm-up, then the schedule over the rest."""
    peak = recipe.optimizer.learning_rate
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done, left = step - warmup, max(steps - warmup, 1)
    return peak * _factor(recipe.schedule, done / left)


def _factor(schedule: Constant | Step | Cosine | OneCycle, progress: float) -> float:
    """Factor of the learning rate at `progress` in 0..1 (1 excluded)."""
    if isinstance(schedule, Step):
        return schedule.factor ** sum(progress >= milestone for milestone in schedule.milestones)
    if isinstance(schedule, Cosine):
        return _between(1.0, schedule.final_fraction, progress)
    if isinstance(schedule, OneCycle):
        if progress < schedule.peak_at:
            return _between(schedule.initial_fraction, 1.0, progress / schedule.peak_at)
        return _between(1.0, schedule.final_fraction, (progress - schedule.peak_at) / (1 - schedule.peak_at))
    return 1.0


def _between(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
