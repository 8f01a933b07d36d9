"""What the capabilities tell a builder of a dataset: the native counterpart of `wit/capabilities.wit`.

Made by `chiron.runtime.datasets.statistics` inside an enclave, or from a local file by the builder kit.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

MAX_COLUMNS = 16_384
"""Columns of statistics; inputs with more elements are summarised more coarsely."""


class Granularity(StrEnum):
    """What one entry of the input columns stands for."""

    ELEMENT = "element"
    FIRST_DIMENSION = "first-dimension"
    WHOLE = "whole"


@dataclass(frozen=True)
class DatasetShape:
    """Capability `dataset-shape`."""

    examples: int
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    classes: int
    """0 for a regression."""


@dataclass(frozen=True)
class Columns:
    """One float32 entry a column: each array [columns]."""

    mean: NDArray[np.float32]
    standard_deviation: NDArray[np.float32]
    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]

    @classmethod
    def empty(cls) -> "Columns":
        """No columns."""
        nothing = np.zeros(0, np.float32)
        return cls(nothing, nothing, nothing, nothing)

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class DatasetStatistics:
    """Capability `dataset-statistics`."""

    granularity: Granularity
    inputs: Columns
    quantile_levels: NDArray[np.float32]
    """[levels], ascending, in 0..1."""
    input_quantiles: NDArray[np.float32]
    """[levels, columns]."""
    targets: Columns
    """Columns of a regression's flattened target; empty for a classification."""
    class_counts: NDArray[np.uint64]
    """[classes]; empty for a regression."""


@dataclass(frozen=True)
class DatasetSample:
    """Capability `dataset-sample`."""

    inputs: NDArray[np.uint8] | NDArray[np.float32]
    """[n, *input_shape] in the input type."""
    targets: NDArray[np.int64] | NDArray[np.float32]
    """[n] class indices, or [n, *target_shape] values."""


@dataclass(frozen=True)
class CapabilityData:
    """All of it; what was not granted is not there, and is never given to the worker process."""

    shape: DatasetShape
    statistics: DatasetStatistics | None = None
    sample: DatasetSample | None = None
