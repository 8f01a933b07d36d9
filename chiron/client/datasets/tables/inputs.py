"""How an input column becomes numbers; what is doubtful about it is told, and not guessed."""

import re
from typing import NamedTuple

from chiron.client.datasets.tables.encoding import EXACT_32
from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.survey import Seen
from chiron.client.datasets.tables.tasks import doubtful_names
from chiron.client.datasets.understood import Doubt
from chiron.client.schemas import MAX_CATEGORIES, Column, ColumnKind, DatePart
from chiron.wire.contract import InputType

MANY_CATEGORIES = 50
"""A column with more is doubtful: each category is an input."""
ROWS_OF_AN_INDEX = 20
"""So many rows that are counted one by one are no chance."""
SMALLEST_32 = 2.0**-126
"""Numbers below it lose their digits in 32 bits, and then become 0."""
_ID_NAME = re.compile(
    r"(?i)(.*[_ -])?(id|uuid|guid|index|key)|unnamed: ?\d+|column 1|row(_?names?|_?number)?"
)
_USUAL_PARTS = (DatePart.YEAR, DatePart.MONTH, DatePart.DAY, DatePart.WEEKDAY)
_CENTURY = (19_000_101, 21_001_231)
"""Dates that are written as numbers."""


class Input(NamedTuple):
    """A column as it is encoded; None while it is not known how."""

    column: Column | None
    doubts: tuple[Doubt, ...] = ()
    remarks: tuple[str, ...] = ()


def find_input(seen: Seen, options: TableOptions, unit: str) -> Input:
    """How the column is encoded."""
    if seen.name in options.categorical:
        found = _categories(seen, options)
    elif seen.name in (dates := dict(options.dates)):
        found = _date(seen, dates[seen.name], unit)
    elif seen.kind == "number":
        found = _number(seen, options, unit)
    elif seen.kind == "boolean":
        fill = seen.mean if options.fill_missing else None
        found = Input(Column(name=seen.name, kind=ColumnKind.BOOLEAN, fill=fill))
    else:
        found = Input(None, (_unreadable(seen, unit),))
    doubts = found.doubts + (() if seen.kind == "empty" else _missing(seen, found.column, options, unit))
    remarks = found.remarks
    if found.column is not None and seen.values is not None and len(seen.values) == 1:
        remarks += (f"column {seen.name!r} is the same in every row (--drop {seen.name!r})",)
    if seen.name in options.keep:
        doubts = tuple(doubt for doubt in doubts if f"--keep {seen.name!r}" not in doubt.settle)
    return Input(found.column, doubts, remarks)


def _categories(seen: Seen, options: TableOptions) -> Input:
    if not seen.values:
        many = f"more than {MAX_CATEGORIES} categories" if seen.values is None else "no value"
        return Input(None, (_doubt(seen, "categories", f"has {many}", "--drop", "--id"),))
    names = tuple(sorted(seen.values))
    doubts = doubtful_names(seen.name, seen.values)
    if "newline" in seen.first:
        doubts += (_doubt(seen, "newline", "has a category that goes on over lines", "--drop"),)
    if len(names) > MANY_CATEGORIES or (len(names) > 10 and len(names) > seen.present / 2):
        says = f"has {len(names)} categories in {seen.present} rows, each an input"
        doubts += (_doubt(seen, "many-categories", says, "--drop", "--id", "--keep"),)
    doubts += escape_doubts(seen)
    fill = 0.0 if options.fill_missing else None
    return Input(Column(name=seen.name, kind=ColumnKind.CATEGORIES, categories=names, fill=fill), doubts)


def escape_doubts(seen: Seen) -> tuple[Doubt, ...]:
    """A backslash before a quote is read as it stands; some programs mean the quote alone."""
    if not seen.escaped:
        return ()
    says = "has texts with backslashes as before an escaped mark, which are taken as they stand"
    return (_doubt(seen, "escape", says, "--keep"),)


def _date(seen: Seen, parts: tuple[DatePart, ...], unit: str) -> Input:
    if seen.kind != "date":
        place = seen.first.get("not-a-number", 1) if seen.times == 0 else None
        where = f" (see {unit} {place})" if place else ""
        says = f"holds something that is no date such as 2024-01-31 or 2024-01-31 23:59{where}"
        return Input(None, (_doubt(seen, "date", says, "--drop"),))
    usual = (*_USUAL_PARTS, DatePart.HOUR) if seen.clock else _USUAL_PARTS
    return Input(Column(name=seen.name, kind=ColumnKind.DATE, parts=parts or usual))


def _number(seen: Seen, options: TableOptions, unit: str) -> Input:
    doubts = _doubtful_number(seen, unit)
    offset, remarks = 0.0, tuple[str, ...]()
    if options.input_dtype is InputType.FLOAT32:
        offset, remarks = _centre(seen)
    too_large = seen.whole and max(abs(seen.lowest - offset), abs(seen.highest - offset)) > EXACT_32
    if too_large or "inexact" in seen.first:
        says = "holds whole numbers too large and too far apart to be told apart in 32 bits"
        doubts += (_doubt(seen, "too-large", says, "--drop", "--id", "--categorical", "--keep"),)
    if 0 < max(abs(seen.lowest), abs(seen.highest)) < SMALLEST_32:
        doubts += (_doubt(seen, "too-small", "holds numbers too small for 32 bits", "--drop", "--keep"),)
    fill = seen.mean if options.fill_missing else None
    whole = seen.whole and not too_large
    return Input(Column(name=seen.name, fill=fill, offset=offset, whole=whole), doubts, remarks)


def _centre(seen: Seen) -> tuple[float, tuple[str, ...]]:
    """What to take from each number, so that 32 bits tell them apart: nothing, where they do so anyway."""
    span, most = seen.highest - seen.lowest, max(abs(seen.lowest), abs(seen.highest))
    if span == 0 or (seen.whole and (most <= EXACT_32 or span > EXACT_32)):
        return 0.0, ()
    if not seen.whole and most <= span * 4096:
        return 0.0, ()
    middle = (seen.lowest + seen.highest) / 2
    offset = float(int(middle)) if seen.whole else middle
    return offset, (
        f"{offset:.17g} is taken from column {seen.name!r}, so that 32 bits tell its values apart",
    )


def _doubtful_number(seen: Seen, unit: str) -> tuple[Doubt, ...]:
    if "infinite" in seen.first:
        says = f"is infinite in {unit} {seen.first['infinite']}"
        return (_doubt(seen, "infinite", says, "--drop"),)
    if seen.codes:
        return (
            _doubt(seen, "codes", "holds codes that begin with zeros", "--categorical", "--drop", "--keep"),
        )
    if seen.whole and seen.lowest >= _CENTURY[0] and seen.highest <= _CENTURY[1]:
        return (_doubt(seen, "date", "may hold dates written as numbers", "--drop", "--keep"),)
    counted = seen.whole and seen.counts_rows and seen.rows > 1
    if counted and (seen.rows >= ROWS_OF_AN_INDEX or _ID_NAME.fullmatch(seen.name)):
        return (_doubt(seen, "index-column", "counts the rows", "--drop", "--id", "--keep"),)
    if _is_id(seen):
        return (
            _doubt(
                seen,
                "id-column",
                "is called like an id, and differs in every row",
                "--id",
                "--drop",
                "--keep",
            ),
        )
    return ()


def _is_id(seen: Seen) -> bool:
    distinct = len(seen.values) if seen.values is not None else seen.present
    return bool(_ID_NAME.fullmatch(seen.name)) and seen.whole and distinct == seen.present > 1


def _unreadable(seen: Seen, unit: str) -> Doubt:
    """Why a column that nothing was said of is no number, and what may be said."""
    if seen.kind == "empty":
        return _doubt(seen, "empty", "has no value", "--drop")
    if seen.quoted:
        return _doubt(seen, "quote", "has texts between apostrophes", '--quote "\'"', "--drop")
    if seen.commas and seen.numbers + seen.commas >= seen.present - seen.words:
        return _doubt(seen, "decimal", "holds numbers with a decimal comma", "--decimal ,", "--drop")
    if seen.kind == "date":
        return _doubt(seen, "date", "holds dates", "--date", "--drop")
    if seen.other_times >= seen.present - seen.words:
        return _doubt(seen, "date", "holds dates that are not written like 2024-01-31", "--drop")
    place = seen.first.get("not-a-number", 1)
    if seen.numbers > seen.present / 2:
        others = seen.present - seen.words - seen.numbers
        says = f"holds numbers, and {others} cells that are none, first in {unit} {place}"
        return _doubt(seen, "mixed", says, "--na-value TEXT", "--drop")
    distinct = None if seen.values is None else len(seen.values)
    few = distinct is not None and distinct <= MANY_CATEGORIES and distinct <= max(2, seen.present / 2)
    says = f"is text, {'many' if distinct is None else distinct} values in {seen.present} rows"
    return _doubt(
        seen, "text", says, *(("--categorical", "--drop") if few else ("--drop", "--id", "--categorical"))
    )


def _missing(seen: Seen, column: Column | None, options: TableOptions, unit: str) -> tuple[Doubt, ...]:
    number = column is not None and column.kind is not ColumnKind.CATEGORIES
    count = seen.missing + (seen.words if number else 0)
    if count == 0 or column is None or column.fill is not None:
        return ()
    fills = ("--drop",) if column.kind is ColumnKind.DATE else ("--fill-missing", "--drop")
    says = f"has {count} missing values, first in {unit} {seen.first['missing']}"
    return (_doubt(seen, "missing", says, *fills),)


def _doubt(seen: Seen, code: str, says: str, *options: str) -> Doubt:
    """`--drop` and its like name the column; an option with a value of its own stands as it is."""
    bare = ("--drop", "--id", "--keep", "--categorical", "--date")
    settle = tuple(f"{option} {seen.name!r}" if option in bare else option for option in options)
    return Doubt(code, f"column {seen.name!r} {says}", settle, seen.name)
