"""Encodes a table's columns as numbers, the way that was settled; what does not fit is refused by place."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chiron.client.datasets.tables import cells
from chiron.client.datasets.tables.table import Batch, Distinct, Table, first_place
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Column, ColumnKind, DatePart
from chiron.wire.contract import InputType

EXACT_32 = 2**24
"""Whole numbers beyond it are not all told apart in 32 bits."""
_Mask = NDArray[np.bool_]


class Encoder:
    """Makes batches of one table into arrays."""

    def __init__(self, table: Table, dtype: InputType, *, show_values: bool = False) -> None:
        """With `show_values`, errors quote the cell that they are about."""
        self._table = table
        self._dtype = np.dtype(dtype.value)
        self._show = show_values

    def inputs(self, batch: Batch, columns: tuple[Column, ...]) -> NDArray[np.generic]:
        """[rows, numbers] in the input type.

        Raises:
            SourceInvalid: a cell is missing, not of its column's kind, or does not fit in the input type.
        """
        parts, wrong = [], []
        for column in columns:
            try:
                parts.append(self._column(batch, column))
            except SourceInvalid as error:
                wrong.append(error)
        if len(wrong) > 1:
            # All bad columns at once: nobody mends a file column by column.
            raise SourceInvalid("\n".join(map(str, wrong)), code=wrong[0].code)
        if wrong:
            raise wrong[0]
        return np.concatenate(parts, axis=1)

    def classes(
        self, batch: Batch, target: str, names: tuple[str, ...], *, unknown: bool = False
    ) -> NDArray[np.int64]:
        """Indices of the target's classes; with `unknown`, -1 where there is none or it is not known.

        Raises:
            SourceInvalid: a class is missing or not known.
        """
        values = batch.columns[target]
        found = np.asarray(pc.fill_null(pc.index_in(cells.labels(values), pa.array(names, pa.string())), -1))
        absent = cells.missing(values, self._table.na_values or ())
        if not unknown:
            self._refuse(batch, target, absent, "the target is missing", "source-not-finite")
            self._refuse(batch, target, found < 0, "a class that the training data has not")
        return np.where(absent, -1, found).astype(np.int64)

    def targets(self, batch: Batch, target: str, *, unknown: bool = False) -> NDArray[np.float32]:
        """A regression's targets; with `unknown`, NaN where there is none.

        Raises:
            SourceInvalid: one is missing, not a number, or not finite.
        """
        values, absent = batch.columns[target], self._missing(batch.columns[target])
        found = cells.numbers(values, self._table.decimal)
        if not unknown:
            self._refuse(batch, target, absent, "the target is missing", "source-not-finite")
        self._refuse(batch, target, ~absent & ~found.given, "not a number")
        with np.errstate(over="ignore"):
            narrow: NDArray[np.float32] = np.where(absent, np.nan, found.values).astype(np.float32)
        self._refuse(
            batch, target, ~absent & ~np.isfinite(narrow), "not a finite number", "source-not-finite"
        )
        return narrow

    def _column(self, batch: Batch, column: Column) -> NDArray[np.generic]:
        encode: dict[ColumnKind, Callable[[Batch, Column], NDArray[np.float64]]] = {
            ColumnKind.NUMBER: self._numbers,
            ColumnKind.BOOLEAN: self._booleans,
            ColumnKind.CATEGORIES: self._one_hot,
            ColumnKind.DATE: self._parts,
        }
        found = Distinct.of(batch.columns[column.name], batch.places)
        once = Batch({column.name: found.values}, found.places)
        return self._narrowed(once, column, encode[column.kind](once, column))[found.indices]

    def _numbers(self, batch: Batch, column: Column) -> NDArray[np.float64]:
        values = batch.columns[column.name]
        absent, found = self._absent(batch, column), cells.numbers(values, self._table.decimal)
        self._refuse(batch, column.name, ~absent & ~found.given, "not a number")
        numbers = np.where(absent, column.fill or 0.0, found.values) - column.offset
        if column.whole:
            lost = (np.abs(numbers) > EXACT_32) & (numbers == np.floor(numbers))
            self._refuse(
                batch,
                column.name,
                ~absent & (lost | found.inexact) & np.isfinite(numbers),
                "too large a whole number",
            )
        return numbers[:, None]

    def _booleans(self, batch: Batch, column: Column) -> NDArray[np.float64]:
        absent = self._absent(batch, column)
        true, given = cells.booleans(batch.columns[column.name])
        self._refuse(batch, column.name, ~absent & ~given, "neither true nor false")
        return np.where(absent, column.fill or 0.0, true.astype(np.float64))[:, None]

    def _one_hot(self, batch: Batch, column: Column) -> NDArray[np.float64]:
        values = batch.columns[column.name]
        absent = cells.missing(values, self._table.na_values or ())
        self._refuse_missing(batch, column, absent)
        places = pc.index_in(cells.labels(values), pa.array(column.categories, pa.string()))
        indices = np.asarray(pc.fill_null(places, -1))
        self._refuse(batch, column.name, ~absent & (indices < 0), "a category that the training data has not")
        numbers = np.zeros((len(values), column.width))
        present = np.flatnonzero(~absent)
        numbers[present, indices[present]] = 1
        return numbers

    def _parts(self, batch: Batch, column: Column) -> NDArray[np.float64]:
        absent = self._absent(batch, column)
        minutes, given = cells.times(batch.columns[column.name])
        self._refuse(
            batch, column.name, ~absent & ~given, "not a date such as 2024-01-31 or 2024-01-31 23:59"
        )
        parts = np.stack([_part(minutes, part) for part in column.parts], axis=1)
        return np.where(absent[:, None], column.fill or 0.0, parts)

    def _narrowed(self, batch: Batch, column: Column, numbers: NDArray[np.float64]) -> NDArray[np.generic]:
        """In the input type, which must hold them."""
        if self._dtype == np.uint8:
            fits = (numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))
            self._refuse(batch, column.name, _rows(~fits), "no whole number from 0 to 255")
            return numbers.astype(np.uint8)
        with np.errstate(over="ignore"):
            narrow = numbers.astype(np.float32)
        bad = _rows(~np.isfinite(narrow))
        self._refuse(batch, column.name, bad, "not a finite number in 32 bits", "source-not-finite")
        return narrow

    def _absent(self, batch: Batch, column: Column) -> _Mask:
        absent = self._missing(batch.columns[column.name])
        self._refuse_missing(batch, column, absent)
        return absent

    def _missing(self, values: pa.Array) -> _Mask:
        words = self._table.na_values
        return cells.missing(values, cells.NA_WORDS if words is None else words)

    def _refuse_missing(self, batch: Batch, column: Column, absent: _Mask) -> None:
        if column.fill is None:
            self._refuse(batch, column.name, absent, "a missing value", "source-not-finite")

    def _refuse(self, batch: Batch, column: str, bad: _Mask, what: str, code: str | None = None) -> None:
        place = first_place(batch.places, bad)
        if place is None:
            return
        shown = ""
        if self._show:
            cell = batch.columns[column][int(np.flatnonzero(bad)[0])].as_py()
            shown = f": {cell!r}"
        raise SourceInvalid(
            f"{self._table.name}, {self._table.unit} {place}, column {column!r}: {what}{shown}", code=code
        )


def _rows(bad: _Mask) -> _Mask:
    """The rows of which any number is bad."""
    return np.asarray(bad.any(axis=1), np.bool_)


def _part(minutes: NDArray[np.datetime64], part: DatePart) -> NDArray[np.float64]:
    days = minutes.astype("datetime64[D]")
    months = minutes.astype("datetime64[M]")
    since_midnight = (minutes - days).astype(np.float64)
    found: dict[DatePart, NDArray[np.generic]] = {
        DatePart.YEAR: minutes.astype("datetime64[Y]").astype(np.float64) + 1970,
        DatePart.MONTH: (months - months.astype("datetime64[Y]")).astype(np.float64) + 1,
        DatePart.DAY: (days - months.astype("datetime64[D]")).astype(np.float64) + 1,
        # 1970-01-01 was a Thursday.
        DatePart.WEEKDAY: (days.astype(np.float64) + 3) % 7,
        DatePart.HOUR: since_midnight // 60,
        DatePart.MINUTE: since_midnight % 60,
    }
    return found[part].astype(np.float64)
