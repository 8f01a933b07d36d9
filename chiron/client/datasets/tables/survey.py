"""One reading of a table from front to back, and all that is remembered of each column."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chiron.client.datasets.sources import MAX_CLASSES
from chiron.client.datasets.tables import cells
from chiron.client.datasets.tables.table import Batch, Table, first_place
from chiron.client.schemas import MAX_CATEGORIES

_ESCAPED = r"""\\([\\"']|$)"""
MAX_HASHED_ROWS = 20_000_000
"""Equal rows are looked for up to here."""
_Mask = NDArray[np.bool_]


@dataclass
class Seen:
    """What one column holds."""

    name: str
    typed: str | None = None
    """The type that the file gives it; None where all is text."""
    rows: int = 0
    missing: int = 0
    """Cells without a value; NA_WORDS are values here."""
    words: int = 0
    """Cells that are one of NA_WORDS."""
    numbers: int = 0
    booleans: int = 0
    times: int = 0
    other_times: int = 0
    commas: int = 0
    """Numbers with a decimal comma."""
    codes: int = 0
    """Digits that begin with a zero."""
    quoted: int = 0
    """Texts between apostrophes."""
    escaped: int = 0
    """Texts with a backslash before a quote, a backslash or their end, as where marks are escaped."""
    lowest: float = np.inf
    highest: float = -np.inf
    total: float = 0.0
    whole: bool = True
    written_whole: bool = True
    """No number is written with a fraction, were it `.0`."""
    counts_rows: bool = True
    clock: bool = False
    """Times have hours and minutes."""
    first: dict[str, int] = field(default_factory=dict)
    """Where something was first: `missing`, `infinite`, `inexact`, `newline`, `not-a-number`, …"""
    values: Counter[str] | None = field(default_factory=Counter)
    """Each value as a label, and how often; None where there are too many."""
    _last: float | None = None

    @property
    def present(self) -> int:
        """Cells with a value."""
        return self.rows - self.missing

    @property
    def kind(self) -> str:
        """`number`, `boolean`, `date`, `text` or `empty`: what every cell is that has a value."""
        real = self.present - self.words
        if real == 0:
            return "empty" if self.words == 0 else "text"
        of_all = (("number", self.numbers), ("boolean", self.booleans), ("date", self.times))
        return next((name for name, count in of_all if count == real), "text")

    @property
    def mean(self) -> float:
        """Of the numbers."""
        return self.total / self.numbers if self.numbers else 0.0

    def note(self, what: str, batch: Batch, where: _Mask) -> int:
        """Remember where `what` was first; returns how many rows are so."""
        if what not in self.first and (place := first_place(batch, where)) is not None:
            self.first[what] = place
        return int(where.sum())


class Survey:
    """Takes in a table batch by batch."""

    def __init__(self, table: Table, target: str, counted: Sequence[str] = ()) -> None:
        """Values of `target` and the columns `counted` are counted as far as `MAX_CLASSES`."""
        self._table = table
        counted = (target, *counted)
        self._limits = {name: MAX_CLASSES if name in counted else MAX_CATEGORIES for name in table.names}
        self.columns = {name: Seen(name) for name in table.names}
        self.twins = Twins(target, [name for name in table.names if name != target])
        self.rows = 0
        self._hashes: list[NDArray[np.uint64]] = []
        for batch in table.batches():
            self._add(batch)

    def equal_rows(self) -> int:
        """Rows that are equal to an earlier one."""
        if self.rows > MAX_HASHED_ROWS or not self._hashes:
            return 0
        return self.rows - len(np.unique(np.concatenate(self._hashes)))

    def _add(self, batch: Batch) -> None:
        rows = len(batch.places)
        self.rows += rows
        hashed = np.zeros(rows, np.uint64)
        for name, values in batch.columns.items():
            _take(self.columns[name], batch, values, self._table)
            self._count(self.columns[name], values)
            if self.rows <= MAX_HASHED_ROWS:
                hashed = hashed * np.uint64(1_000_003) ^ _hashed(values)
        self._hashes.append(hashed)
        self.twins.add(batch)

    def _count(self, seen: Seen, values: pa.Array) -> None:
        if seen.values is None:
            return
        limit = self._limits[seen.name]
        if pc.count_distinct(values).as_py() <= limit:
            present = cells.labels(values).filter(
                pa.array(~cells.missing(values, self._table.na_values or ()))
            )
            counted = pc.value_counts(present)
            seen.values.update(
                dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True))
            )
            if len(seen.values) <= limit:
                return
        seen.values = None


class Twins:
    """Columns that tell the target: one value of theirs is one of the target's in every row, and back."""

    def __init__(self, target: str, others: list[str]) -> None:
        self._target = target
        self._alive: dict[str, tuple[dict[str, str], dict[str, str]]] = {name: ({}, {}) for name in others}

    def add(self, batch: Batch) -> None:
        """Strike out the columns that are none by these rows."""
        target = batch.columns[self._target]
        distinct = pc.count_distinct(target, mode="all").as_py()
        for name in list(self._alive):
            # Cheap, and enough for nearly every column.
            same = pc.count_distinct(batch.columns[name], mode="all").as_py() == distinct
            if not same or not self._agrees(name, batch.columns[name], target):
                del self._alive[name]

    def names(self) -> tuple[str, ...]:
        """Those that are left."""
        return tuple(self._alive)

    def _agrees(self, name: str, values: pa.Array, target: pa.Array) -> bool:
        there, back = self._alive[name]
        pairs = zip(cells.labels(values).to_pylist(), cells.labels(target).to_pylist(), strict=True)
        return all(there.setdefault(a, b) == b and back.setdefault(b, a) == a for a, b in set(pairs))


def _take(seen: Seen, batch: Batch, values: pa.Array, table: Table) -> None:
    """Add one batch's cells to what is remembered of their column."""
    absent = cells.missing(values, table.na_values or ())
    words = np.zeros(len(values), bool)
    if table.na_values is None and cells.is_text(values):
        words = cells.missing(values, cells.NA_WORDS) & ~absent
    seen.typed = None if cells.is_text(values) else str(values.type)
    seen.rows += len(values)
    seen.missing += seen.note("missing", batch, absent)
    seen.words += seen.note("missing", batch, words)
    real = ~absent & ~words
    given = _take_numbers(seen, batch, values, real, table.decimal)
    if cells.is_text(values):
        _take_texts(seen, batch, values, real)
    if seen.numbers < seen.present - seen.words:
        seen.booleans += int((cells.booleans(values)[1] & real).sum())
        _take_times(seen, batch, values, real)
    seen.note("not-a-number", batch, real & ~given)


def _take_numbers(seen: Seen, batch: Batch, values: pa.Array, real: _Mask, decimal: str) -> _Mask:
    found = cells.numbers(values, decimal)
    given = found.given & real
    seen.note("infinite", batch, given & np.isinf(found.values))
    seen.note("inexact", batch, given & found.inexact)
    seen.numbers += int(given.sum())
    finite = found.values[given & np.isfinite(found.values)]
    if not given.all():
        seen.counts_rows = False
    if len(finite) == 0:
        return given
    seen.lowest, seen.highest = min(seen.lowest, float(finite.min())), max(seen.highest, float(finite.max()))
    seen.total += float(finite.sum())
    seen.whole = seen.whole and bool((finite == np.floor(finite)).all())
    steps = np.diff(finite, prepend=finite[0] - 1 if seen._last is None else seen._last)
    seen.counts_rows = seen.counts_rows and bool((steps == 1).all())
    seen._last = float(finite[-1])
    return given


def _take_texts(seen: Seen, batch: Batch, values: pa.Array, real: _Mask) -> None:
    seen.codes += int((cells.is_code(values) & real).sum())
    seen.commas += int((cells.has_decimal_comma(values) & real).sum())
    seen.note("newline", batch, np.asarray(pc.match_substring_regex(values, "[\r\n]")).astype(bool))
    seen.escaped += int(np.asarray(pc.match_substring_regex(values, _ESCAPED)).astype(bool).sum())
    seen.quoted += int(np.asarray(pc.match_substring_regex(values, "(?s)^'.*'$")).astype(bool).sum())


def _take_times(seen: Seen, batch: Batch, values: pa.Array, real: _Mask) -> None:
    minutes, given = cells.times(values)
    found = minutes[given & real]
    seen.times += len(found)
    seen.other_times += int((cells.looks_like_time(values) & real).sum())
    seen.clock = seen.clock or bool((found != found.astype("datetime64[D]")).any())


def _hashed(values: pa.Array) -> NDArray[np.uint64]:
    """A number for each cell, equal for equal cells."""
    encoded = values.dictionary_encode(null_encoding="encode")
    own = np.array([hash(value) & (2**64 - 1) for value in encoded.dictionary.to_pylist()], np.uint64)
    if len(own) == 0:
        return np.zeros(len(values), np.uint64)
    numbers: NDArray[np.uint64] = own[np.asarray(encoded.indices)] * np.uint64(0x9E3779B97F4A7C15)
    return numbers
