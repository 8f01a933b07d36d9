"""Mean, standard deviation and range of many columns, in one pass over batches.

Batches are merged by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances" (1979): no difference of large sums, in float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.wasm_sandbox.capability_data import Columns

_BATCH_ELEMENTS = 2**21
"""Of float64 at a time: 16 MiB."""


class Moments:
    """Of columns, whose values arrive as arrays [rows, columns, values]."""

    def __init__(self, columns: int) -> None:
        self._count = 0
        self._mean = np.zeros(columns)
        self._squares = np.zeros(columns)
        """Sum of squared differences from the mean."""
        self._minimum = np.full(columns, np.inf)
        self._maximum = np.full(columns, -np.inf)

    def add(self, values: NDArray[Any]) -> None:
        """`values`: [rows, columns, values] of any real type."""
        rows = max(1, _BATCH_ELEMENTS // max(1, values[0].size))
        for start in range(0, len(values), rows):
            self._merge(values[start : start + rows].astype(np.float64))

    def columns(self) -> Columns:
        """Of all that was added, in float32; the standard deviation is the population's."""
        return Columns(
            mean=self._mean.astype(np.float32),
            standard_deviation=np.sqrt(self._squares / max(1, self._count)).astype(np.float32),
            minimum=self._minimum.astype(np.float32),
            maximum=self._maximum.astype(np.float32),
        )

    def _merge(self, batch: NDArray[np.float64]) -> None:
        # Values that are not finite are the owner's own: they give columns that are not finite either.
        with np.errstate(invalid="ignore", over="ignore"):
            count = batch.shape[0] * batch.shape[2]
            mean = batch.mean(axis=(0, 2))
            squares = ((batch - mean[None, :, None]) ** 2).sum(axis=(0, 2))
            total = self._count + count
            apart = mean - self._mean
            self._squares += squares + apart**2 * (self._count * count / total)
            self._mean += apart * (count / total)
            self._minimum = np.minimum(self._minimum, batch.min(axis=(0, 2)))
            self._maximum = np.maximum(self._maximum, batch.max(axis=(0, 2)))
            self._count = total
