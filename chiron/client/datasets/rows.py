"""Rows to predict, read into memory in the form that a dataset's model expects."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.sources import finite
from chiron.client.errors import SourceInvalid, needing
from chiron.client.schemas import Settled
from chiron.wire.contract import InputType, Task
from chiron.wire.datasets import DatasetManifest


class Rows(NamedTuple):
    """`x`, `[n, *input_shape]` in the input type; `y` [n, …] where the file has the true targets too."""

    x: NDArray[Any]
    y: NDArray[Any] | None


def read_rows(
    path: Path,
    manifest: DatasetManifest,
    class_names: tuple[str, ...] = (),
    settled: Settled | None = None,
) -> Rows:
    """Rows from .npz (`x`, perhaps `y`), .npy, .csv, .tsv, .parquet, an image or a folder of images.

    In a table, one column more than the inputs is the true target: the last, or where `settled` says how
    each was encoded, the one that is none of them.

    Raises:
        SourceInvalid: the file cannot be read, or its rows are not of the dataset's form.
    """
    if not path.exists():
        raise SourceInvalid(f"there is no {path}")
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        x, y = _arrays(path)
    elif suffix in (".csv", ".tsv", ".parquet"):
        x, y = _table(path, manifest, class_names, settled)
    else:
        x, y = _images(path, manifest), None
    return Rows(_inputs(x, manifest), y)


def _inputs(x: NDArray[Any], manifest: DatasetManifest) -> NDArray[Any]:
    dtype = np.dtype(manifest.input_dtype.value)
    if x.shape[1:] != manifest.input_shape:
        if x.ndim < 1 or x[:1].size != np.prod(manifest.input_shape, dtype=np.int64):
            raise SourceInvalid(f"rows of shape {list(x.shape[1:])} are not {list(manifest.input_shape)}")
        x = x.reshape(len(x), *manifest.input_shape)
    if manifest.input_dtype is InputType.UINT8 and x.dtype != dtype:
        raise SourceInvalid(f"this model's inputs are uint8, not {x.dtype}")
    if x.dtype.kind not in "biuf":
        raise SourceInvalid(f"inputs must be numbers, not {x.dtype}")
    return finite(np.ascontiguousarray(x, dtype), "an input")


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            return loaded["x"], loaded.get("y")
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise SourceInvalid(f"{path.name} is no file of arrays with one named x") from error


def _table(
    path: Path, manifest: DatasetManifest, class_names: tuple[str, ...], settled: Settled | None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    with needing("tables", "tables need pyarrow"):
        from chiron.client.datasets.tables import read_encoded

    x, target = read_encoded(path, settled.columns) if settled else _plain_table(path, manifest)
    x = x.astype(manifest.input_dtype.value)
    if target is None or manifest.task is Task.REGRESSION:
        return x, target if target is None else np.asarray(target, np.float32)
    names = {name: number for number, name in enumerate(class_names)}
    return x, np.array([names.get(str(value), -1) for value in target], np.int64)


def _plain_table(path: Path, manifest: DatasetManifest) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    from chiron.client.datasets.tables import read_columns

    columns = read_columns(path)
    inputs = int(np.prod(manifest.input_shape, dtype=np.int64))
    if len(columns) not in (inputs, inputs + 1):
        raise SourceInvalid(f"{path.name} has {len(columns)} columns, the model has {inputs} inputs")
    try:
        x = np.stack([np.asarray(column, np.float64) for column in columns[:inputs]], axis=1)
    except ValueError as error:
        raise SourceInvalid(f"{path.name} has a column that is not numeric") from error
    return x, columns[inputs] if len(columns) > inputs else None


def _images(path: Path, manifest: DatasetManifest) -> NDArray[Any]:
    with needing("images", "images need Pillow"):
        from chiron.client.datasets.images import read_images

    if len(manifest.input_shape) != 3 or manifest.input_dtype is not InputType.UINT8:
        raise SourceInvalid("this model was not trained on images")
    return read_images(path, manifest.input_shape)
