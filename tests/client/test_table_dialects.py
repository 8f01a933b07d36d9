"""Any table that pandas writes, in any dialect, comes back equal or is refused; columns have any order."""

import csv
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.client.datasets.rows import read_rows
from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.source import TableSource, table_source
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Reading
from chiron.wire.contract import Task
from tests.client.test_sources import manifest_of, read_all

TEXTS = st.text(
    st.one_of(st.sampled_from("ab,;|\t\"'\n\r\\ .:#-0179é"), st.characters(exclude_categories=["Cs"])),
    max_size=6,
)
WORDS = st.one_of(
    TEXTS, st.sampled_from(["NA", "nan", "007", "7", "7.0", "cat", "Cat", "cat ", "True", "", "1,5"])
)
NUMBERS = st.one_of(st.integers(-9, 9).map(float), st.floats(width=32, allow_nan=False, allow_infinity=False))


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """A few rows: two columns of numbers, truth values, and classes by name."""
    rows = draw(st.integers(2, 12))
    names = draw(st.lists(WORDS, min_size=2, max_size=3, unique=True))
    column = st.lists(NUMBERS, min_size=rows, max_size=rows)
    labels = st.lists(st.sampled_from(names), min_size=rows, max_size=rows)
    return pd.DataFrame(
        {
            "first": draw(column),
            "yes": draw(st.lists(st.booleans(), min_size=rows, max_size=rows)),
            "last": draw(column),
            "kind": draw(labels),
        }
    )


OFTEN = st.sampled_from([True] * 5 + [False])
DIALECTS = st.fixed_dictionaries(
    {
        "sep": st.sampled_from([",", ",", ",", ";", "\t", "|", " ", ":"]),
        "decimal": st.sampled_from([".", ".", ","]),
        "index": st.booleans(),
        "header": OFTEN,
        "quotechar": st.sampled_from(['"', '"', "'"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE]),
        "doublequote": OFTEN,
        "lineterminator": st.sampled_from(["\n", "\n", "\r\n", "\r"]),
        "encoding": st.sampled_from(
            ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "utf-16-le"]
        ),
        "na_rep": st.sampled_from(["", "NA", "-"]),
    }
)


def rows_of(source: TableSource) -> Counter[Any]:
    examples, names = read_all(source), source.description.class_names
    return Counter(
        (tuple(x), names[y]) for x, y in zip(examples.x.tolist(), examples.y.tolist(), strict=True)
    )


def rows_in(frame: pd.DataFrame) -> Counter[Any]:
    numbers = frame[["first", "yes", "last"]].to_numpy(np.float32).tolist()
    return Counter((tuple(x), kind) for x, kind in zip(numbers, frame["kind"], strict=True))


def written(frame: pd.DataFrame, path: Path, dialect: dict[str, Any]) -> bool:
    """Whether pandas can write it at all."""
    try:
        frame.to_csv(path, escapechar="\\" if dialect["quoting"] == csv.QUOTE_NONE else None, **dialect)
    except (UnicodeError, csv.Error):
        return False
    return True


def taken(path: Path, reading: Reading, **options: Any) -> Counter[Any] | None:
    """The rows that come back, or None if they are refused."""
    try:
        source = table_source(path, TableOptions(reading=reading, **options))
        # What was left out would be told to the owner; here it is a row that does not come back.
        return rows_of(source)
    except SourceInvalid:
        return None


@settings(max_examples=60, deadline=None)
@given(frames(), DIALECTS)
def test_what_pandas_writes_comes_back_equal_or_is_refused(
    frame: pd.DataFrame, dialect: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.csv"
        if not written(frame, path, dialect):
            return
        found = taken(path, Reading(), task=Task.CLASSIFICATION)
        assert found in (None, rows_in(frame)), path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(frames(), DIALECTS)
def test_with_the_dialect_said_it_is_the_same(frame: pd.DataFrame, dialect: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.csv"
        if not written(frame, path, dialect):
            return
        reading = Reading(
            delimiter=dialect["sep"],
            encoding=dialect["encoding"],
            decimal=dialect["decimal"],
            header=dialect["header"],
            quote=dialect["quotechar"],
        )
        found = taken(path, reading, task=Task.CLASSIFICATION)
        assert found in (None, rows_in(frame)), path.read_bytes()


@settings(max_examples=20, deadline=None)
@given(
    frames().map(lambda frame: frame.assign(kind=[f"class {len(name) % 2}" for name in frame["kind"]])),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_plain_tables_are_never_refused(frame: pd.DataFrame, sep: str, encoding: str, quoting: Any) -> None:
    frame = frame.assign(kind=["class 0", "class 1", *frame["kind"][2:]])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.csv"
        frame.to_csv(path, sep=sep, encoding=encoding, quoting=quoting, index=False)
        assert taken(path, Reading(), keep=("first", "last", "kind")) == rows_in(frame)


@settings(max_examples=20, deadline=None)
@given(frames(), st.permutations(["first", "yes", "last", "kind"]), st.booleans())
def test_any_order_of_columns_predicts_the_same(
    frame: pd.DataFrame, order: list[str], with_target: bool
) -> None:
    frame = frame.assign(kind=["a", "b", *["a"] * (len(frame) - 2)])
    source = table_source(frame, TableOptions(keep=("first", "last"), target="kind"))
    described, manifest = source.description, manifest_of(source)
    if described.understood.doubts:
        return
    asked = frame[[name for name in order if with_target or name != "kind"]]
    with tempfile.TemporaryDirectory() as directory:
        asked.to_csv(Path(directory) / "new.csv", index=False)
        asked.to_parquet(Path(directory) / "new.parquet", index=True)
        for new in (asked, Path(directory) / "new.csv", Path(directory) / "new.parquet"):
            rows = read_rows(new, manifest, described.class_names, described.settled)
            np.testing.assert_array_equal(rows.x, encoded(source, frame))
            assert (rows.y is None) != with_target


def encoded(source: TableSource, frame: pd.DataFrame) -> Any:
    """The frame's inputs as they were for training, in its order."""
    settled = source.description.settled
    assert settled is not None
    offsets = np.array([column.offset for column in settled.columns])
    return (frame[["first", "yes", "last"]].to_numpy(np.float64) - offsets).astype(np.float32)
