"""What a builder may see of a dataset, computed natively in one pass, and only what was granted.

Every example is read at most once; memory holds a chunk, the columns and the picked rows. Which rows are
picked depends on the seed and the number of rows only.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets.chunks import Examples
from chiron.runtime.datasets.encrypted import EncryptedDataset
from chiron.wasm_sandbox.capability_data import (
    MAX_COLUMNS,
    CapabilityData,
    Columns,
    DatasetSample,
    DatasetShape,
    DatasetStatistics,
    Granularity,
)
from chiron.wire.contract import Capability, CapabilityGrants
from chiron.wire.datasets import DatasetManifest

QUANTILE_LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_QUANTILE_ELEMENTS = 2**22
"""Elements that quantiles are taken of, at most: exact for datasets of up to so many."""
_BATCH_ELEMENTS = 2**21
"""Elements that are converted to float64 at a time: 16 MiB."""
_QUANTILE_ROWS, _SAMPLE_ROWS = 1, 2
"""Seeds of the two choices of rows, beside the job's, so that neither tells the other."""


async def collect(
    dataset: EncryptedDataset, numbers: Sequence[int], grants: CapabilityGrants, seed: int
) -> CapabilityData:
    """Compute what `grants` names from the chunks `numbers`; reads nothing if it is the shape alone.

    Raises:
        ChunkRefused, ChunkMalformed: as `EncryptedDataset.read`.
    """
    manifest, total = dataset.manifest, dataset.examples_in(numbers)
    shape = DatasetShape(total, manifest.input_shape, manifest.target_shape, manifest.classes)
    statistics, sample = None, None
    if Capability.DATASET_STATISTICS in grants.granted:
        statistics = _Statistics(manifest, total, seed)
    if Capability.DATASET_SAMPLE in grants.granted:
        sample = _PickedRows(total, grants.sample_examples, seed, _SAMPLE_ROWS)
    if statistics is None and sample is None:
        return CapabilityData(shape)
    async for examples in dataset.read(numbers):
        if statistics is not None:
            statistics.add(examples)
        if sample is not None:
            sample.add(examples)
    return CapabilityData(
        shape,
        None if statistics is None else statistics.finished(),
        None if sample is None else DatasetSample(*sample.picked()),
    )


def granularity_of(input_shape: tuple[int, ...]) -> tuple[Granularity, int]:
    """What the columns of an input of this shape stand for, and how many there are."""
    if prod(input_shape) <= MAX_COLUMNS:
        return Granularity.ELEMENT, prod(input_shape)
    if input_shape[0] <= MAX_COLUMNS:
        return Granularity.FIRST_DIMENSION, input_shape[0]
    return Granularity.WHOLE, 1


class _Statistics:
    def __init__(self, manifest: DatasetManifest, total: int, seed: int) -> None:
        self._granularity, self._columns = granularity_of(manifest.input_shape)
        self._inputs = Moments(self._columns)
        rows = max(1, _QUANTILE_ELEMENTS // prod(manifest.input_shape))
        self._quantile_rows = _PickedRows(total, rows, seed, _QUANTILE_ROWS)
        targets = 0 if manifest.classes else prod(manifest.target_shape)
        self._targets = Moments(targets) if 0 < targets <= MAX_COLUMNS else None
        self._counts = np.zeros(manifest.classes, np.uint64)

    def add(self, examples: Examples) -> None:
        self._inputs.add(self._by_column(examples.x))
        self._quantile_rows.add(examples)
        if self._targets is not None:
            self._targets.add(examples.y.reshape(len(examples.y), -1, 1))
        if len(self._counts):
            self._counts += np.bincount(examples.y, minlength=len(self._counts)).astype(np.uint64)

    def finished(self) -> DatasetStatistics:
        picked = self._by_column(self._quantile_rows.picked().x).astype(np.float64)
        with np.errstate(invalid="ignore"):
            quantiles = np.quantile(picked, QUANTILE_LEVELS, axis=(0, 2))
        return DatasetStatistics(
            granularity=self._granularity,
            inputs=self._inputs.columns(),
            quantile_levels=np.array(QUANTILE_LEVELS, np.float32),
            input_quantiles=quantiles.astype(np.float32),
            targets=Columns.empty() if self._targets is None else self._targets.columns(),
            class_counts=self._counts,
        )

    def _by_column(self, x: NDArray[Any]) -> NDArray[Any]:
        return x.reshape(len(x), self._columns, -1)


class _PickedRows:
    """A choice of rows without repetition, gathered while all rows go by."""

    def __init__(self, total: int, count: int, seed: int, purpose: int) -> None:
        random = np.random.default_rng([purpose, seed])
        self._wanted = np.sort(random.choice(total, min(count, total), replace=False, shuffle=False))
        self._seen = 0
        self._parts: list[Examples] = []

    def add(self, examples: Examples) -> None:
        start, end = np.searchsorted(self._wanted, [self._seen, self._seen + len(examples.x)])
        rows = self._wanted[start:end] - self._seen
        # An empty part tells the shapes and types, where no row was picked.
        if len(rows) or not self._parts:
            self._parts.append(Examples(examples.x[rows], examples.y[rows]))
        self._seen += len(examples.x)

    def picked(self) -> Examples:
        return Examples(
            np.concatenate([part.x for part in self._parts]),
            np.concatenate([part.y for part in self._parts]),
        )


class Moments:
    """Mean, standard deviation and range of many columns, in one pass over batches.

    Batches are merged by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances" (1979): no difference of large sums, in float64.
    """

    def __init__(self, columns: int) -> None:
        self._count = 0
        self._mean = np.zeros(columns)
        self._squares = np.zeros(columns)
        """Sum of squared differences from the mean."""
        self._minimum = np.full(columns, np.inf)
        self._maximum = np.full(columns, -np.inf)

    def add(self, values: NDArray[Any]) -> None:
        """Take in `values`: [rows, columns, values] of any real type."""
        rows = max(1, _BATCH_ELEMENTS // max(1, values[0].size))
        for start in range(0, len(values), rows):
            self._merge(values[start : start + rows].astype(np.float64))

    def columns(self) -> Columns:
        """The moments of all that was added, in float32; the standard deviation is the population's."""
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
