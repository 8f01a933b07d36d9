"""Encodes a table's columns as numbers, and finds out how when a table is first read."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chiron.client.errors import SourceInvalid
from chiron.client.schemas import MAX_CATEGORIES, Column, ColumnKind


def encoded(column: Column, values: pa.Array) -> NDArray[np.float64]:
    """[n] values as numbers [n, column.width].

    Raises:
        SourceInvalid: a value is missing, not a number, or a category that is not known.
    """
    missing = _missing(values)
    if missing.any() and column.fill is None:
        raise SourceInvalid(f"column {column.name!r} has missing values", code="source-not-finite")
    if column.categories:
        return _one_hot(column, values, missing)
    return np.where(missing, column.fill or 0.0, _numbers(values, column.name))[:, None]


def _one_hot(column: Column, values: pa.Array, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    places = pc.index_in(_texts(values), pa.array(column.categories, pa.string()))
    indices = np.asarray(places.fill_null(-1))
    if (indices[~missing] < 0).any():
        raise SourceInvalid(f"column {column.name!r} has a category that the training data has not")
    numbers = np.zeros((len(values), column.width))
    present = np.flatnonzero(~missing)
    numbers[present, indices[present]] = 1
    return numbers


class Survey:
    """Finds the columns' encodings in one reading of a table."""

    def __init__(self, categorical: Sequence[str], *, fill: bool) -> None:
        self._categorical = categorical
        self._fill = fill
        self._categories: dict[str, set[str]] = {name: set() for name in categorical}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, batch: pa.RecordBatch, names: Sequence[str]) -> None:
        """Take in one batch's columns `names`.

        Raises:
            SourceInvalid: a column has too many categories, or is not numeric.
        """
        for name in names:
            values = batch.column(name)
            if name in self._categories:
                found = self._categories[name]
                found.update(pc.unique(_texts(values)).drop_null().to_pylist())
                if len(found) > MAX_CATEGORIES:
                    raise SourceInvalid(f"column {name!r} has more than {MAX_CATEGORIES} categories")
            elif self._fill:
                present = _numbers(values, name)[~_missing(values)]
                self._sums[name] = self._sums.get(name, 0.0) + float(present.sum(dtype=np.float64))
                self._counts[name] = self._counts.get(name, 0) + len(present)

    def columns(self, names: Sequence[str]) -> tuple[Column, ...]:
        """The encodings of these columns.

        Raises:
            SourceInvalid: a column declared categorical is not there, or has nothing but missing values.
        """
        unknown = [name for name in self._categorical if name not in names]
        if unknown:
            raise SourceInvalid(f"there is no input column {unknown[0]!r}")
        return tuple(self._column(name) for name in names)

    def _column(self, name: str) -> Column:
        if name in self._categories:
            if not self._categories[name]:
                raise SourceInvalid(f"column {name!r} has no value")
            return Column(
                name=name,
                kind=ColumnKind.CATEGORIES,
                categories=tuple(sorted(self._categories[name])),
                fill=0.0 if self._fill else None,
            )
        if not self._fill:
            return Column(name=name)
        mean = self._sums.get(name, 0.0) / max(1, self._counts.get(name, 0))
        return Column(name=name, fill=mean if np.isfinite(mean) else 0.0)


def _texts(values: pa.Array) -> pa.Array:
    """A column of anything as text."""
    return values.cast(pa.string())


def _missing(values: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(values.is_null(nan_is_null=True))


def _numbers(values: pa.Array, name: str) -> NDArray[np.float64]:
    """Missing ones are NaN."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    if not any(kind(values.type) for kind in kinds):
        raise SourceInvalid(f"column {name!r} is not numeric: declare it categorical, or leave it out")
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
