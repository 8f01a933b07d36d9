"""Reads tables of text, strictly by RFC 4180: what other readers put up with is refused by line.

Python's `csv` splits lines into cells: it refuses a quote that stays open and one that closes within a cell,
and knows the line. All cells stay text; what they mean is decided later, when the whole column was seen.
"""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from chiron.client.datasets.tables.dialect import DELIMITERS, Dialect, decoded_lines, find_dialect
from chiron.client.datasets.tables.table import BATCH_ROWS, Batch, Table, checked_names, unnamed
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Reading

_Row = tuple[int, list[str]]


def text_table(path: Path, reading: Reading) -> Table:
    """The table in a file of text.

    Raises:
        SourceDoubtful: it can be read in more than one way.
        SourceInvalid: it cannot be read.
    """
    dialect = find_dialect(path, reading)
    _, first = next(_rows(path, dialect), (1, []))
    names = checked_names(path.name, first if dialect.header else [""] * len(first))
    facts = {
        "delimiter": DELIMITERS.get(dialect.delimiter, dialect.delimiter),
        "encoding": dialect.encoding.removesuffix("-sig"),
    }
    if reading.decimal == ",":
        facts["decimal"] = "comma"
    return Table(
        name=path.name,
        names=names,
        batches=lambda: _batches(path, dialect, names),
        unit="line",
        decimal=reading.decimal or ".",
        na_values=reading.na_values,
        index=(unnamed(1),) if dialect.header and len(names) > 1 and not first[0].strip() else (),
        unnamed=tuple(
            unnamed(place) for place, text in enumerate(first, 1) if dialect.header and not text.strip()
        ),
        untyped=True,
        named=dialect.header,
        facts=facts,
    )


def _batches(path: Path, dialect: Dialect, names: tuple[str, ...]) -> Iterator[Batch]:
    rows = _rows(path, dialect)
    if dialect.header:
        next(rows, None)
    while chunk := list(islice(rows, BATCH_ROWS)):
        columns = zip(*(cells for _, cells in chunk), strict=True)
        arrays = {name: _array(cells) for name, cells in zip(names, columns, strict=True)}
        yield Batch(arrays, np.array([line for line, _ in chunk], np.int64))


def _array(cells: tuple[str, ...]) -> pa.Array:
    joined = "".join(cells)
    if not joined.isascii():
        return pa.array(cells, pa.string())
    # The same, four times as fast: one letter is one byte.
    offsets = np.zeros(len(cells) + 1, np.int32)
    np.cumsum(list(map(len, cells)), out=offsets[1:])
    return pa.StringArray.from_buffers(len(cells), pa.py_buffer(offsets), pa.py_buffer(joined.encode()))


def _rows(path: Path, dialect: Dialect) -> Iterator[_Row]:
    """Records that are not blank, each with the line where it begins; all have as many cells as the first."""
    lines = _Lines(path, dialect)
    reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
    width = 0
    while True:
        lines.begins = 0
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise SourceInvalid(f"{path.name}, line {lines.begins}: {_in_words(error, lines)}") from None
        if row is None:
            return
        if not row:
            continue
        width = width or len(row)
        if len(row) != width:
            counted = f"{len(row)} cells where the first line has {width}"
            raise SourceInvalid(f"{path.name}, line {lines.begins}: {counted}")
        if lines.begins != lines.number:
            _refuse_swallowed(path, lines.begins, row, dialect)
        yield lines.begins, row


class _Lines:
    """The lines that a CSV reader takes, and the number of the first and the last one that it took."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._lines = decoded_lines(path, dialect.encoding, dialect.comment, dialect.quote)
        self.begins = 0
        self.number = 0
        for _ in range(1, dialect.first_line):
            next(self._lines)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self.number, text = next(self._lines)
        self.begins = self.begins or self.number
        return text


def _in_words(error: csv.Error, lines: _Lines) -> str:
    said = str(error)
    if "expected after" in said:
        return "a quote closes before its cell ends; a quote inside a quoted cell is written twice"
    if "unexpected end of data" in said:
        return "a quote that opens here is never closed"
    if "new-line character" in said:
        return "a carriage return without a line feed: save the file with other line ends"
    if "field limit" in said:
        return f"a cell is longer than {csv.field_size_limit()} characters: is a quote not closed?"
    return f"it cannot be split into cells, up to line {lines.number}"


def _refuse_swallowed(path: Path, line: int, row: list[str], dialect: Dialect) -> None:
    """A quote that was left open closes at the next one, rows later: what is between them looks like rows."""
    for cell in row:
        for inner in cell.splitlines()[1:]:
            if len(row) > 1 and inner.count(dialect.delimiter) == len(row) - 1:
                raise SourceInvalid(
                    f"{path.name}, line {line}: a quoted cell goes on over lines that look like rows of the "
                    "table: is its quote not closed?"
                )
