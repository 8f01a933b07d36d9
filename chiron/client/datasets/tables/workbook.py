"""Reads one sheet of an Excel workbook (.xlsx): its cells become text, and are read as a CSV file's."""

import datetime
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from chiron.client.datasets.tables.table import BATCH_ROWS, Batch, Table, checked_names, unnamed
from chiron.client.datasets.understood import Doubt
from chiron.client.errors import SourceDoubtful, SourceInvalid, needing
from chiron.client.schemas import Reading

ERRORS = ("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!")


def workbook_table(path: Path, reading: Reading) -> Table:
    """The table in a sheet; the only one that is not empty, unless `reading` names one.

    Raises:
        SourceDoubtful: it could be more than one sheet, or a row's cells are no names.
        SourceInvalid: it is no workbook, or has no such sheet.
    """
    sheet = _sheet(path, reading.sheet)
    first = next(_rows(path, sheet), [])
    header = reading.header is not False
    if header and reading.header is None and any(isinstance(cell, int | float) for cell in first):
        says = "the first row holds numbers: are they names?"
        raise SourceDoubtful(path.name, (Doubt("header", says, ("--no-header", "--header")),))
    names = checked_names(path.name, [_text(cell) if header else "" for cell in first])
    return Table(
        name=path.name,
        names=names,
        batches=lambda: _batches(path, sheet, names, header=header),
        na_values=reading.na_values,
        unnamed=tuple(unnamed(place) for place, cell in enumerate(first, 1) if header and cell is None),
        index=(unnamed(1),) if header and len(first) > 1 and first[0] is None else (),
        untyped=True,
        named=header,
        facts={"sheet": sheet},
    )


def _batches(path: Path, sheet: str, names: tuple[str, ...], *, header: bool) -> Iterator[Batch]:
    rows = enumerate(_rows(path, sheet), 1)
    if header:
        next(rows, None)
    kept = ((number, row) for number, row in rows if any(cell is not None for cell in row))
    while chunk := list(islice(kept, BATCH_ROWS)):
        columns: list[list[str]] = [[] for _ in names]
        for number, row in chunk:
            if len(row) > len(names) and any(cell is not None for cell in row[len(names) :]):
                raise SourceInvalid(f"{path.name}, row {number}: more cells than the first row")
            for place, cells in enumerate(columns):
                cells.append(_cell(path, number, row[place] if place < len(row) else None))
        arrays = {name: pa.array(cells, pa.string()) for name, cells in zip(names, columns, strict=True)}
        yield Batch(arrays, np.array([number for number, _ in chunk], np.int64))


def _rows(path: Path, sheet: str) -> Iterator[list[Any]]:
    with _Workbook(path) as book:
        for row in book[sheet].iter_rows(values_only=True):
            yield list(row)


def _sheet(path: Path, named: str | None) -> str:
    with _Workbook(path) as book:
        names: list[str] = [sheet.title for sheet in book.worksheets]
        if named is not None and named not in names:
            raise SourceInvalid(f"{path.name} has no sheet {named!r}: it has {', '.join(map(repr, names))}")
        if named is not None:
            return named
        filled = [name for name in names if next(book[name].iter_rows(values_only=True), None)]
        if len(filled) > 1:
            says = f"{len(filled)} sheets have rows"
            options = tuple(f"--sheet {name!r}" for name in filled)
            raise SourceDoubtful(path.name, (Doubt("sheet", says, options),))
        if not filled:
            raise SourceInvalid(f"{path.name} has no rows")
        return filled[0]


class _Workbook:
    """An open workbook; values, where a cell has a formula."""

    def __init__(self, path: Path) -> None:
        with needing("tables", "Excel workbooks need openpyxl"):
            import openpyxl
        try:
            self._book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        except (
            BadZipFile,
            OSError,
            KeyError,
            ValueError,
            openpyxl.utils.exceptions.InvalidFileException,
        ) as error:
            raise SourceInvalid(f"{path.name} is not a readable workbook (.xlsx)") from error

    def __enter__(self) -> Any:
        return self._book

    def __exit__(self, *_: object) -> None:
        self._book.close()


def _cell(path: Path, number: int, value: object) -> str:
    text = _text(value)
    if text in ERRORS and text != "#N/A":
        raise SourceInvalid(f"{path.name}, row {number}: a formula that ended in an error")
    return "" if text == "#N/A" else text


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ") if value.time() != datetime.time() else value.date().isoformat()
    return str(value)
