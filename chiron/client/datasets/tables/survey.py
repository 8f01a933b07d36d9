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
from chiron.client.datasets.tables.table import Batch, Distinct, Table, first_place
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
    trues: int = 0
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
    counts_rows: bool = True
    clock: bool = False
    """Times have hours and minutes."""
    first: dict[str, int] = field(default_factory=dict)
    """Where something was first: `missing`, `infinite`, `inexact`, `newline`, `not-a-number`, …"""
    values: Counter[str] | None = field(default_factory=Counter)
    """Each value as a label, and how often; None where there are too many."""
    last: float | None = None
    """The number in the row before."""

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
        """Of the numbers; of truth values, the share of those that are true."""
        if self.numbers:
            return self.total / self.numbers
        return self.trues / self.booleans if self.booleans else 0.0

    def note(self, what: str, found: Distinct, where: _Mask) -> int:
        """Remember where `what` was first; returns how many rows are so."""
        if what not in self.first and (place := first_place(found.places, where)) is not None:
            self.first[what] = place
        return int(found.counts[where].sum())


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
        found = {name: Distinct.of(values, batch.places) for name, values in batch.columns.items()}
        for name, values in batch.columns.items():
            self.columns[name].typed = None if cells.is_text(values) else str(values.type)
            _take(self.columns[name], found[name], self._table)
            self._count(self.columns[name], found[name])
            if self.rows <= MAX_HASHED_ROWS:
                hashed = hashed * np.uint64(1_000_003) ^ _hashed(found[name])
        self._hashes.append(hashed)
        self.twins.add(batch, found)

    def _count(self, seen: Seen, found: Distinct) -> None:
        limit = self._limits[seen.name]
        if seen.values is None or len(found.values) > limit + 1:
            seen.values = None
            return
        absent = cells.missing(found.values, self._table.na_values or ())
        counted = zip(
            cells.labels(found.values).to_pylist(), found.counts.tolist(), absent.tolist(), strict=True
        )
        for label, count, gone in counted:
            if not gone:
                seen.values[label] += count
        if len(seen.values) > limit:
            seen.values = None


class Twins:
    """Columns that tell the target: one value of theirs is one of the target's in every row, and back."""

    def __init__(self, target: str, others: list[str]) -> None:
        self._target = target
        self._alive: dict[str, tuple[dict[str, str], dict[str, str]]] = {name: ({}, {}) for name in others}

    def add(self, batch: Batch, found: dict[str, Distinct]) -> None:
        """Strike out the columns that are none by these rows."""
        target = batch.columns[self._target]
        distinct = len(found[self._target].values)
        for name in list(self._alive):
            # Cheap, and enough for nearly every column.
            same = len(found[name].values) == distinct
            if not same or not self._agrees(name, batch.columns[name], target):
                del self._alive[name]

    def names(self) -> tuple[str, ...]:
        """Those that are left."""
        return tuple(self._alive)

    def _agrees(self, name: str, values: pa.Array, target: pa.Array) -> bool:
        there, back = self._alive[name]
        pairs = zip(cells.labels(values).to_pylist(), cells.labels(target).to_pylist(), strict=True)
        return all(there.setdefault(a, b) == b and back.setdefault(b, a) == a for a, b in set(pairs))


def _take(seen: Seen, found: Distinct, table: Table) -> None:
    """Add one batch's cells to what is remembered of their column."""
    values = found.values
    absent = cells.missing(values, table.na_values or ())
    words = np.zeros(len(values), bool)
    if table.na_values is None and cells.is_text(values):
        words = cells.missing(values, cells.NA_WORDS) & ~absent
    seen.rows += len(found.indices)
    seen.missing += seen.note("missing", found, absent)
    seen.words += seen.note("missing", found, words)
    real = ~absent & ~words
    given = _take_numbers(seen, found, real, table.decimal)
    if cells.is_text(values):
        _take_texts(seen, found, real, all_numbers=bool(given[real].all()))
    if seen.numbers < seen.present - seen.words:
        true, boolean = cells.booleans(values)
        seen.booleans += int(found.counts[boolean & real].sum())
        seen.trues += int(found.counts[true & real].sum())
        _take_times(seen, found, real)
    seen.note("not-a-number", found, real & ~given)


def _take_numbers(seen: Seen, found: Distinct, real: _Mask, decimal: str) -> _Mask:
    numbers = cells.numbers(found.values, decimal)
    given = numbers.given & real
    seen.note("infinite", found, given & np.isinf(numbers.values))
    seen.note("inexact", found, given & numbers.inexact)
    seen.numbers += int(found.counts[given].sum())
    kept = given & np.isfinite(numbers.values)
    finite = numbers.values[kept]
    if not given.all():
        seen.counts_rows = False
    if len(finite) == 0:
        return given
    seen.lowest, seen.highest = min(seen.lowest, float(finite.min())), max(seen.highest, float(finite.max()))
    seen.total += float((finite * found.counts[kept]).sum())
    seen.whole = seen.whole and bool((finite == np.floor(finite)).all())
    if seen.counts_rows:
        _take_steps(seen, numbers.values[found.indices])
    return given


def _take_steps(seen: Seen, numbers: NDArray[np.float64]) -> None:
    """Whether each number is one more than that of the row before."""
    before = numbers[0] - 1 if seen.last is None else seen.last
    seen.counts_rows = bool((np.diff(numbers, prepend=before) == 1).all())
    seen.last = float(numbers[-1])


def _take_texts(seen: Seen, found: Distinct, real: _Mask, *, all_numbers: bool) -> None:
    values, counts = found.values, found.counts
    seen.codes += int(counts[cells.is_code(values) & real].sum())
    if all_numbers:
        return
    seen.commas += int(counts[cells.has_decimal_comma(values) & real].sum())
    seen.note("newline", found, np.asarray(pc.match_substring_regex(values, "[\r\n]")).astype(bool))
    seen.escaped += int(counts[np.asarray(pc.match_substring_regex(values, _ESCAPED)).astype(bool)].sum())
    seen.quoted += int(counts[np.asarray(pc.match_substring_regex(values, "(?s)^'.*'$")).astype(bool)].sum())


def _take_times(seen: Seen, found: Distinct, real: _Mask) -> None:
    minutes, given = cells.times(found.values)
    times = minutes[given & real]
    seen.times += int(found.counts[given & real].sum())
    seen.other_times += int(found.counts[cells.looks_like_time(found.values) & real].sum())
    seen.clock = seen.clock or bool((times != times.astype("datetime64[D]")).any())


def _hashed(found: Distinct) -> NDArray[np.uint64]:
    """A number for each row's cell, equal for equal cells."""
    own = np.array([hash(value) & (2**64 - 1) for value in found.values.to_pylist()], np.uint64)
    numbers: NDArray[np.uint64] = own[found.indices] * np.uint64(0x9E3779B97F4A7C15)
    return numbers
