"""Sources by name: `sklearn:…`, .npz, tables, a folder, a .zip; and frames.

`sklearn:digits` and its neighbours are small real data sets that come with scikit-learn.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.sources import ArraySource, Source, npz_source
from chiron.client.errors import SourceInvalid, needing
from chiron.client.schemas import Column, Reading, SchemaFile, TableSchema
from chiron.wire.contract import InputType, Task

PREFIX = "sklearn:"
NAMES = ("digits", "iris", "wine", "breast_cancer", "diabetes")
TABLES = frozenset({".csv", ".tsv", ".tab", ".txt", ".parquet", ".arrow", ".feather", ".xlsx"})
_OF_ARRAYS = ("task",)
_OF_IMAGES = ("image_size", "grey")
_OF_TABLES = (
    "target",
    "task",
    "input_dtype",
    "input_shape",
    "categorical",
    "fill_missing",
    "dates",
    "ids",
    "drop",
    "keep",
    "reading",
    "show_values",
)
_OF_SCHEMA = ("schema", "reading", "show_values")


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source besides its name; an option that does not apply to its kind is refused."""

    target: str | None = None
    task: Task | None = None
    input_dtype: InputType | None = None
    input_shape: tuple[int, ...] | None = None
    image_size: tuple[int, int] | None = None
    """(width, height)."""
    grey: bool | None = None
    categorical: tuple[str, ...] | None = None
    fill_missing: bool | None = None
    dates: tuple[str, ...] | None = None
    """Columns of dates, each with its parts: `born=year,month`, or `born` for the usual ones."""
    ids: tuple[str, ...] | None = None
    drop: tuple[str, ...] | None = None
    keep: tuple[str, ...] | None = None
    """Columns that are meant as they are, whatever looks doubtful about them."""
    reading: Reading | None = None
    """How a file of text, or a workbook, is read."""
    schema: SchemaFile | None = None
    """What was settled for an earlier file: this one is taken the same way."""
    show_values: bool | None = None
    """Errors quote the cell that they are about."""

    def only(self, kind: str, *names: str) -> None:
        """Refuse options that mean nothing to this kind of source: all but `names`.

        Raises:
            SourceInvalid: one of them was given.
        """
        for option in fields(self):
            if option.name not in names and getattr(self, option.name) is not None:
                raise SourceInvalid(f"{option.name.replace('_', '-')} does not apply to {kind}")


def open_source(name: Any, options: SourceOptions | None = None) -> Source:
    """The source that a name or path stands for, or a frame of pandas, polars or pyarrow.

    What reads a kind is imported only for it: pyarrow is large.

    Raises:
        SourceInvalid: nothing of that name, or not of a kind that is known.
        SourceDoubtful: it can be read in more than one way.
        ExtraMissing: what reads this kind is not installed.
    """
    options = options or SourceOptions()
    if not isinstance(name, str | Path):
        return _table(name, options)
    if str(name).startswith(PREFIX):
        options.only("built-in data")
        return builtin_source(str(name))
    path = Path(name)
    if not path.exists():
        raise SourceInvalid(f"there is no {name}")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        options.only(".npz files", *_OF_ARRAYS)
        return npz_source(path, task=options.task)
    if suffix in TABLES:
        return _table(path, options)
    if path.is_dir() or suffix == ".zip":
        options.only("images", *_OF_IMAGES)
        with needing("images", "images need Pillow"):
            from chiron.client.datasets.images import ImageSource

        return ImageSource(path, size=options.image_size, grey=options.grey)
    raise SourceInvalid(
        f"{path.name}: .npz, tables ({', '.join(sorted(TABLES))}), .zip and folders can be read"
    )


def as_source(source: Any) -> Source:
    """A source as it is; else what a name, a path or a frame stands for.

    Raises:
        SourceInvalid, SourceDoubtful: as `open_source`.
    """
    if hasattr(source, "description") and hasattr(source, "read"):
        known: Source = source
        return known
    return open_source(source)


def _table(source: Any, options: SourceOptions) -> Source:
    if options.schema is not None:
        options.only("a table whose schema is given", *_OF_SCHEMA)
    options.only("tables", *_OF_TABLES, "schema")
    with needing("tables", "tables need pyarrow"):
        from chiron.client.datasets.tables.options import TableOptions, date_option
        from chiron.client.datasets.tables.source import table_source

    chosen = TableOptions(
        target=options.target,
        task=options.task,
        input_dtype=options.input_dtype or InputType.FLOAT32,
        input_shape=options.input_shape,
        categorical=options.categorical or (),
        dates=tuple(map(date_option, options.dates or ())),
        fill_missing=bool(options.fill_missing),
        ids=options.ids or (),
        drop=options.drop or (),
        keep=options.keep or (),
        reading=_reading(options),
        schema=options.schema,
        show_values=bool(options.show_values),
    )
    return table_source(source, chosen)


def _reading(options: SourceOptions) -> Reading:
    """How the file is read: as is said now, else as the schema has it."""
    given = options.reading or Reading()
    return given if options.schema is None else given.over(options.schema.settled.reading)


def builtin_source(name: str) -> ArraySource:
    """The data set that a name such as `sklearn:digits` stands for.

    Digits are 1,797 images [1, 8, 8] in float32 from 0 to 1; the others are tables of float32 columns.

    Raises:
        SourceInvalid: there is none of that name.
        ExtraMissing: scikit-learn is not installed.
    """
    chosen = name.removeprefix(PREFIX)
    if chosen not in NAMES:
        raise SourceInvalid(
            f"no built-in data set {name!r}: there are {', '.join(PREFIX + n for n in NAMES)}"
        )
    with needing("demo", "the built-in data sets need scikit-learn"):
        from sklearn import datasets
    loaded = getattr(datasets, f"load_{chosen}")()
    names = [str(label) for label in getattr(loaded, "target_names", [])]
    x: NDArray[np.float32] = np.asarray(loaded.data, np.float32)
    if chosen == "digits":
        x = (x / np.float32(16)).reshape(-1, 1, 8, 8)
    if chosen == "diabetes":
        source = ArraySource(x, loaded.target.astype(np.float32), task=Task.REGRESSION, source=name)
    else:
        source = ArraySource(x, loaded.target, class_names=names, source=name)
    if chosen != "digits":
        columns = tuple(Column(name=str(feature)) for feature in loaded.feature_names)
        schema = TableSchema(columns=columns, input_shape=(len(columns),))
        source.description = replace(source.description, settled=schema)
    return source
