"""Sources by name: `sklearn:…`, .npz, .csv, .tsv, .parquet, a folder, a .zip.

`sklearn:digits` and its neighbours are small real data sets that come with scikit-learn.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.sources import ArraySource, Source, npz_source
from chiron.client.errors import SourceInvalid, needing
from chiron.wire.contract import InputType, Task

PREFIX = "sklearn:"
NAMES = ("digits", "iris", "wine", "breast_cancer", "diabetes")
TABLES = frozenset({".csv", ".tsv", ".parquet"})
_OF_ARRAYS = ("task",)
_OF_IMAGES = ("image_size", "grey")
_OF_TABLES = ("target", "task", "input_dtype", "input_shape", "categorical", "fill_missing")


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

    def only(self, kind: str, *names: str) -> None:
        """Refuse options that mean nothing to this kind of source: all but `names`.

        Raises:
            SourceInvalid: one of them was given.
        """
        for option in fields(self):
            if option.name not in names and getattr(self, option.name) is not None:
                raise SourceInvalid(f"{option.name.replace('_', '-')} does not apply to {kind}")


def open_source(name: str, options: SourceOptions | None = None) -> Source:
    """The source that a name or path stands for. What reads a kind is imported only for it: pyarrow is large.

    Raises:
        SourceInvalid: nothing of that name, or not of a kind that is known.
        ExtraMissing: what reads this kind is not installed.
    """
    options = options or SourceOptions()
    if name.startswith(PREFIX):
        options.only("built-in data")
        return builtin_source(name)
    path = Path(name)
    if not path.exists():
        raise SourceInvalid(f"there is no {name}")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        options.only(".npz files", *_OF_ARRAYS)
        return npz_source(path, task=options.task)
    if suffix in TABLES:
        options.only("tables", *_OF_TABLES)
        with needing("tables", "tables need pyarrow"):
            from chiron.client.datasets.tables import TableOptions, table_source

        dtype, filled = options.input_dtype or InputType.FLOAT32, bool(options.fill_missing)
        of_columns = (options.input_shape, options.categorical or (), filled)
        return table_source(path, TableOptions(options.target, options.task, dtype, *of_columns))
    if path.is_dir() or suffix == ".zip":
        options.only("images", *_OF_IMAGES)
        with needing("images", "images need Pillow"):
            from chiron.client.datasets.images import ImageSource

        return ImageSource(path, size=options.image_size, grey=options.grey)
    raise SourceInvalid(f"{path.name}: .npz, .csv, .tsv, .parquet, .zip and folders can be read")


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
        return ArraySource(x, loaded.target.astype(np.float32), task=Task.REGRESSION, source=name)
    return ArraySource(x, loaded.target, class_names=names, source=name)
