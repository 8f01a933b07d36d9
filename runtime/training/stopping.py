"""Early stop: learning ends when validation no longer gets better. The schedule goes on without it."""

import math

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.training.layout import Vector
from chiron.wasm_sandbox.recipe import EarlyStop


class EarlyStopping:
    """Follows the merged validation loss, which all trainers see alike, and keeps the best vector."""

    def __init__(self, settings: EarlyStop | None, elements: int) -> None:
        self._settings = settings
        length = elements if settings else 0
        self.validated: Vector = np.zeros(length, np.float32)
        """The vector that is being validated."""
        self.best: Vector = np.zeros(length, np.float32)
        self.progress: NDArray[np.float64] = np.array([math.inf, 0.0, 0.0])
        """Best loss, exchanges since, whether learning has stopped."""

    @property
    def stopped(self) -> bool:
        """Whether learning has ended."""
        return bool(self.progress[2])

    def validating(self, vector: Vector) -> None:
        """Remember the vector that the next loss is of."""
        if self._settings and not self.stopped:
            self.validated[:] = vector

    def judge(self, loss: float | None) -> bool:
        """Take in a merged loss (None: not finite or nothing to validate on); True if learning ends here."""
        if not self._settings or self.stopped:
            return False
        if loss is not None and loss < self.progress[0] - self._settings.minimum_improvement:
            self.progress[:2] = loss, 0
            self.best[:] = self.validated
            return False
        if not math.isfinite(self.progress[0]):
            return False
        self.progress[1] += 1
        self.progress[2] = self.progress[1] >= self._settings.patience
        return self.stopped
