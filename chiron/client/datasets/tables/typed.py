"""Reads tables whose columns have types: Parquet, Arrow and Feather files, and frames of pandas or polars.

Types are kept: a number is not made text on the way. What no example can hold is refused by name.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from chiron.client.datasets.tables.table import BATCH_ROWS, Batch, Table, checked_names
from chiron.client.errors import SourceInvalid

_INDEX = re.compile(r"__index_level_\d+__")


def parquet_table(path: Path) -> Table:
    """The table in a Parquet file.

    Raises:
        SourceInvalid: it cannot be read, or a column is of a type that no example has.
    """
    with arrow_errors(path.name):
        schema = pyarrow.parquet.read_schema(path)

    def batches() -> Iterator[pa.RecordBatch]:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS)

    return _table(path.name, schema, batches)


def arrow_table(path: Path) -> Table:
    """The table in an Arrow (IPC) or Feather file.

    Raises:
        SourceInvalid: as `parquet_table`.
    """
    with arrow_errors(path.name):
        whole = pyarrow.feather.read_table(path, memory_map=True)
    return _of_table(path.name, whole)


def frame_table(frame: Any, name: str = "the frame") -> Table:
    """A frame of pandas or polars, or a table of pyarrow: whatever gives its columns to Arrow.

    Raises:
        SourceInvalid: it is none, or a column is of a type that no example has.
    """
    if isinstance(frame, pa.Table):
        return _of_table(name, frame)
    names = [str(column) for column in getattr(frame, "columns", ())]
    checked_names(name, names)
    try:
        whole = pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError):
        # From None: Arrow's messages quote cells.
        raise SourceInvalid(f"{name} is no frame of columns of one type each: {_odd(frame)}") from None
    return _of_table(name, whole)


def _odd(frame: Any) -> str:
    """Which columns Arrow does not take."""
    odd = []
    for column in getattr(frame, "columns", ()):
        try:
            pa.array(frame[column])
        except (pa.ArrowException, TypeError, ValueError):
            odd.append(str(column))
    return f"see {', '.join(map(repr, odd))}" if odd else "name a file, or give a frame"


def _of_table(name: str, whole: pa.Table) -> Table:
    return _table(name, whole.schema, lambda: iter(whole.to_batches(max_chunksize=BATCH_ROWS)))


def _table(name: str, schema: pa.Schema, open_batches: Callable[[], Iterator[pa.RecordBatch]]) -> Table:
    names = checked_names(name, [str(field.name) for field in schema])
    odd = [
        f"{column!r} ({field.type})"
        for column, field in zip(names, schema, strict=True)
        if not _taken(field.type)
    ]
    if odd:
        raise SourceInvalid(
            f"{name}: numbers, texts, truth values and times can be read, not column {', '.join(odd)}: write "
            "the file without them"
        )

    def batches() -> Iterator[Batch]:
        row = 1
        with arrow_errors(name):
            for batch in open_batches():
                columns = {column: _plain(batch.column(place)) for place, column in enumerate(names)}
                yield Batch(columns, np.arange(row, row + batch.num_rows, dtype=np.int64))
                row += batch.num_rows

    return Table(name, names, batches, index=_index(schema, names))


def _index(schema: pa.Schema, names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that pandas keeps row labels in, as the file says or by their names."""
    try:
        told = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        told = []
    return tuple(column for column in names if column in told or _INDEX.fullmatch(column))


def _taken(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_decimal,
        pa.types.is_null,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_date,
        pa.types.is_timestamp,
    )
    if pa.types.is_dictionary(kind):
        return _taken(kind.value_type)
    return any(test(kind) for test in tests)


def _plain(values: pa.Array) -> pa.Array:
    """The column as text, float64, a whole number, truth values or microseconds."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        # Not `dictionary_decode`: it knows no views of texts, which polars has.
        return _plain(values.dictionary).take(values.indices)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.float64(), safe=False)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        # Local time as it is written, whatever the zone: parts of a date are what people read.
        return (
            pa.compute.local_timestamp(values).cast(pa.timestamp("us"), safe=False)
            if getattr(kind, "tz", None)
            else values.cast(pa.timestamp("us"), safe=False)
        )
    if pa.types.is_string_view(kind):
        return pa.array(values.to_pylist(), pa.string())
    return values.cast(pa.string())


class arrow_errors:  # noqa: N801
    """A block in which Arrow reads the file of this name: its errors become ours, without their cells."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, (pa.ArrowException, OSError)):
            # From None: Arrow's messages quote cells.
            raise SourceInvalid(f"{self._name} cannot be read as a table ({type(error).__name__})") from None
