"""Tables as a source, CSV and Parquet: one row an example, one column the target, every other column a
number or, where so declared, a category.

Tables are read twice from front to back, never whole: once to learn the classes and the number of rows,
once to encrypt.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from chiron.client.datasets.encoding import Survey, encoded
from chiron.client.datasets.sources import MAX_CLASSES, Description, finite
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Column, TableSchema
from chiron.runtime.datasets import Examples
from chiron.wire.contract import InputType, Task

CSV_BLOCK_BYTES = 4 * 2**20
PARQUET_BATCH_ROWS = 8192
WINDOW_BATCHES = 4
"""Rows are mixed within this many batches."""
FEW_CLASSES = 1000
"""Whole-numbered targets with more distinct values than this are taken for a regression."""


@dataclass(frozen=True)
class TableOptions:
    """Options of a table: how its columns are meant."""

    target: str | None = None
    """The target's column; the last one by default."""
    task: Task | None = None
    """By default: text, boolean or few whole numbers are classes, everything else a regression."""
    input_dtype: InputType = InputType.FLOAT32
    input_shape: tuple[int, ...] | None = None
    """How a row's inputs are shaped; by default one dimension."""
    categorical: tuple[str, ...] = ()
    """Input columns that hold categories; every other one holds numbers."""
    fill_missing: bool = False
    """A missing number becomes its column's mean, a missing category none of them; else they are refused."""


def table_source(path: Path, options: TableOptions | None = None) -> "TableSource":
    """The table in a .csv, .tsv or .parquet file.

    Raises:
        SourceInvalid: it cannot be read, or a column is not what it must be.
    """
    chosen = options or TableOptions()
    return TableSource(path.name, lambda: _batches(path, chosen), chosen)


def read_encoded(path: Path, columns: Sequence[Column]) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    """Inputs [n, numbers] of a small table, encoded as the training data was; targets, where one column more
    than the inputs is there. Columns are found by name.

    Raises:
        SourceInvalid: it cannot be read, a column is not there, or a value is not of its column's kind.
    """
    known = {column.name for column in columns}
    categorical = tuple(column.name for column in columns if column.categories)
    with _arrow_errors(path.name):
        names = _column_names(path)
        rest = [name for name in names if name not in known]
        if len(names) != len(columns) + len(rest) or len(rest) > 1:
            raise SourceInvalid(f"{path.name} has not the columns that the model was trained on")
        options = TableOptions(target=rest[0] if rest else "", categorical=categorical)
        table = pa.Table.from_batches(_batches(path, options))
        parts = [encoded(column, _one(table.column(column.name))) for column in columns]
        return np.concatenate(parts, axis=1), _to_numpy(_one(table.column(rest[0]))) if rest else None


def _column_names(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        return list(pyarrow.parquet.read_schema(path).names)
    return list(_open_csv(path, {}).schema.names)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def read_columns(path: Path) -> list[NDArray[Any]]:
    """All columns of a small table.

    Raises:
        SourceInvalid: it cannot be read, or a value is missing.
    """
    with _arrow_errors(path.name):
        table = pa.Table.from_batches(_batches(path, TableOptions()))
        if any(column.null_count for column in table.columns):
            raise SourceInvalid(f"{path.name} has missing values", code="source-not-finite")
        return [_to_numpy(column.combine_chunks()) for column in table.columns]


def _batches(path: Path, options: TableOptions) -> Iterator[pa.RecordBatch]:
    return _parquet_batches(path) if path.suffix.lower() == ".parquet" else _csv_batches(path, options)


class TableSource:
    """A table that is opened anew for each reading."""

    def __init__(
        self, name: str, open_batches: Callable[[], Iterator[pa.RecordBatch]], options: TableOptions
    ) -> None:
        self._name = name
        self._open = open_batches
        self._options = options
        with _arrow_errors(name):
            self._survey()

    def _survey(self) -> None:
        """The first reading: columns, number of rows, distinct targets."""
        examples = 0
        distinct: pa.Array | None = None
        columns: list[str] = []
        survey = Survey(self._options.categorical, fill=self._options.fill_missing)
        for batch in self._open():
            columns = columns or list(batch.schema.names)
            target = self._options.target or columns[-1]
            if target not in columns:
                raise SourceInvalid(f"{self._name} has no column {target!r}")
            values = batch.column(target)
            if values.null_count:
                raise SourceInvalid(f"a target is missing in {self._name}", code="source-not-finite")
            examples += batch.num_rows
            survey.add(batch, [column for column in columns if column != target])
            if distinct is None or len(distinct) <= MAX_CLASSES:
                merged = [distinct, pc.unique(values)] if distinct is not None else [pc.unique(values)]
                distinct = pc.unique(pa.concat_arrays([part.cast(values.type) for part in merged]))
        if distinct is None or examples == 0:
            raise SourceInvalid(f"{self._name} has no rows")
        self._target = self._options.target or columns[-1]
        self._columns = survey.columns([column for column in columns if column != self._target])
        self._describe(examples, distinct)

    def _describe(self, examples: int, distinct: pa.Array) -> None:
        task = self._options.task or _task_of(distinct)
        names: tuple[str, ...] = ()
        self._classes: NDArray[Any] | None = None
        if task is Task.CLASSIFICATION:
            if not 2 <= len(distinct) <= MAX_CLASSES:
                raise SourceInvalid(f"column {self._target!r} holds {len(distinct)} classes")
            self._classes = np.sort(_to_numpy(distinct))
            names = tuple(str(value) for value in self._classes)
        width = sum(column.width for column in self._columns)
        shape = self._options.input_shape or (width,)
        if prod(shape) != width:
            raise SourceInvalid(f"{width} input columns cannot be shaped {list(shape)}")
        self.description = Description(
            task=task,
            input_shape=shape,
            input_dtype=self._options.input_dtype,
            examples=examples,
            class_names=names,
            settled=TableSchema(columns=self._columns)
            if self._options.categorical or self._options.fill_missing
            else None,
        )

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The rows numbered `rows`, mixed within a window; see `Source.read`. They decide the order, too."""
        chosen = np.zeros(self.description.examples, np.bool_)
        chosen[rows] = True
        random = np.random.default_rng(int(rows[0]) if len(rows) else 0)
        window: list[Examples] = []
        held = 0
        with _arrow_errors(self._name):
            for examples in self._selected(chosen):
                window.append(examples)
                held += len(examples.x)
                while held >= WINDOW_BATCHES * size:
                    mixed = _mixed(window, random)
                    yield Examples(mixed.x[:size], mixed.y[:size])
                    window = [Examples(mixed.x[size:], mixed.y[size:])]
                    held -= size
        if window:
            mixed = _mixed(window, random)
            for start in range(0, len(mixed.x), size):
                yield Examples(mixed.x[start : start + size], mixed.y[start : start + size])

    def _selected(self, chosen: NDArray[np.bool_]) -> Iterator[Examples]:
        start = 0
        for batch in self._open():
            mask = chosen[start : start + batch.num_rows]
            start += batch.num_rows
            if mask.any():
                yield self._examples(batch.filter(pa.array(mask)))

    def _examples(self, batch: pa.RecordBatch) -> Examples:
        numbers = [self._numbers(batch, column) for column in self._columns]
        x = np.concatenate(numbers, axis=1).reshape(-1, *self.description.input_shape)
        targets = _to_numpy(batch.column(self._target))
        if self._classes is not None:
            return Examples(x, np.searchsorted(self._classes, targets).astype(np.int64))
        try:
            return Examples(x, finite(targets.astype(np.float32), "a target"))
        except ValueError as error:
            raise SourceInvalid(f"column {self._target!r} is not numeric") from error

    def _numbers(self, batch: pa.RecordBatch, column: Column) -> NDArray[Any]:
        numbers = encoded(column, batch.column(column.name))
        dtype = np.dtype(self._options.input_dtype.value)
        if (
            dtype == np.uint8
            and not ((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))).all()
        ):
            raise SourceInvalid(f"column {column.name!r} has values that are no whole numbers from 0 to 255")
        return finite(numbers.astype(dtype), f"a value of column {column.name!r}")


def _mixed(window: list[Examples], random: np.random.Generator) -> Examples:
    x = np.concatenate([part.x for part in window])
    y = np.concatenate([part.y for part in window])
    order = random.permutation(len(x))
    return Examples(x[order], y[order])


def _task_of(distinct: pa.Array) -> Task:
    if pa.types.is_floating(distinct.type) or pa.types.is_decimal(distinct.type):
        return Task.REGRESSION
    if pa.types.is_integer(distinct.type) and len(distinct) > FEW_CLASSES:
        return Task.REGRESSION
    return Task.CLASSIFICATION


def _to_numpy(values: pa.Array) -> NDArray[Any]:
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array.astype(str) if array.dtype.kind == "O" else array


def _csv_batches(path: Path, options: TableOptions) -> Iterator[pa.RecordBatch]:
    """The first block decides which columns are numbers; they are read as float64 throughout.

    Otherwise a column that begins with whole numbers would refuse the first fraction.
    """
    schema = _open_csv(path, {}).schema
    # "" is no column's: then all are inputs.
    target = schema.names[-1] if options.target is None else options.target
    types = {
        field.name: pa.float64()
        for field in schema
        if field.name != target and (pa.types.is_integer(field.type) or pa.types.is_null(field.type))
    }
    types |= {name: pa.string() for name in options.categorical if name in schema.names}
    if options.task is Task.REGRESSION:
        types[target] = pa.float64()
    yield from _open_csv(path, types)


def _open_csv(path: Path, types: dict[str, pa.DataType]) -> pyarrow.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ","),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True),
    )


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=PARQUET_BATCH_ROWS)


@contextmanager
def _arrow_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # From None: Arrow's messages quote cells.
        kind = type(error).__name__
        raise SourceInvalid(f"{name} cannot be read as a table ({kind})") from None
