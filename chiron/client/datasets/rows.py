"""Rows to predict, read into memory in the form that a dataset's model expects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.opening import TABLES
from chiron.client.datasets.sources import channels_first, finite
from chiron.client.errors import SourceInvalid, needing
from chiron.client.schemas import AS_FOUND, Reading, Settled
from chiron.wire.contract import InputType
from chiron.wire.datasets import DatasetManifest


class Rows(NamedTuple):
    """Rows as the model takes them, in the file's order."""

    x: NDArray[Any]
    """`[n, *input_shape]` in the input type."""
    y: NDArray[Any] | None
    """[n, …], where the file has the true targets too; -1 or NaN for a row without."""
    ids: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """What tells the rows apart, a text a row: columns of ids, or names of files."""


@dataclass(frozen=True)
class RowsOptions:
    """How a file of new rows is read, where it is not as the training data was."""

    reading: Reading = AS_FOUND
    ids: tuple[str, ...] = ()
    """Columns that go to the output, besides those that were ids in training."""
    drop: tuple[str, ...] = ()
    show_values: bool = False


def read_rows(
    source: Path | Any,
    manifest: DatasetManifest,
    class_names: tuple[str, ...] = (),
    settled: Settled | None = None,
    options: RowsOptions | None = None,
) -> Rows:
    """Rows from arrays (.npz with `x` and perhaps `y`, .npy), a table or frame, an image or a folder of them.

    Columns of a table are found by name, in any order, and read and encoded as the training data was:
    `settled` says how. The target may be among them.

    Raises:
        SourceInvalid: the file cannot be read, or its rows are not of the training data's form.
    """
    options = options or RowsOptions()
    if not isinstance(source, str | Path):
        return _table(source, manifest, class_names, settled, options)
    path = Path(source)
    if not path.exists():
        raise SourceInvalid(f"there is no {path}")
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return _table(path, manifest, class_names, settled, options)
    if suffix in (".npz", ".npy"):
        x, y = _arrays(path)
        return Rows(_inputs(_filled(x, settled), manifest), y)
    names, images = _images(path, manifest)
    return Rows(_inputs(images, manifest), None, {"file": names})


def inputs_of(rows: Any, manifest: DatasetManifest, settled: Settled | None) -> NDArray[Any]:
    """Rows of any kind as the model takes them: a file or frame by its names, an array as it stands.

    Raises:
        SourceInvalid: a file or frame does not fit.
    """
    if isinstance(rows, str | Path) or hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "columns"):
        return read_rows(rows, manifest, (), settled).x
    return _filled(np.asarray(rows), settled)


def _filled(x: NDArray[Any], settled: Settled | None) -> NDArray[Any]:
    """Encoded rows, in which NaN becomes what its column was filled with in training."""
    if settled is None or x.dtype.kind != "f" or x.ndim != 2:
        return x
    fills = [column.fill for column in settled.columns for _ in range(column.width)]
    offsets = [column.offset for column in settled.columns for _ in range(column.width)]
    if x.shape[1] != len(fills):
        return x
    known = np.array([np.nan if fill is None else fill for fill in fills]) - np.array(offsets)
    return np.where(np.isnan(x), known.astype(x.dtype), x)


def _inputs(x: NDArray[Any], manifest: DatasetManifest) -> NDArray[Any]:
    dtype = np.dtype(manifest.input_dtype.value)
    if x.shape[1:] != manifest.input_shape:
        x = channels_first(x)
    if x.shape[1:] != manifest.input_shape:
        # Numbers in a row, or a dimension of 1 more or less: anything else would be another order.
        flat = x.ndim == 2 and x.shape[1] == np.prod(manifest.input_shape, dtype=np.int64)
        if not flat and _long(x.shape[1:]) != _long(manifest.input_shape):
            raise SourceInvalid(f"rows of shape {list(x.shape[1:])} are not {list(manifest.input_shape)}")
        x = x.reshape(len(x), *manifest.input_shape)
    if manifest.input_dtype is InputType.UINT8 and x.dtype != dtype:
        raise SourceInvalid(f"this model's inputs are uint8, not {x.dtype}")
    if x.dtype.kind not in "biuf":
        raise SourceInvalid(f"inputs must be numbers, not {x.dtype}")
    return finite(np.ascontiguousarray(x, dtype), "an input")


def _long(shape: tuple[int, ...]) -> list[int]:
    """The dimensions that are not 1."""
    return [size for size in shape if size != 1]


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
    source: Path | Any,
    manifest: DatasetManifest,
    class_names: tuple[str, ...],
    settled: Settled | None,
    options: RowsOptions,
) -> Rows:
    if settled is None:
        raise SourceInvalid(
            "this model was trained on arrays, so nothing says which column is which input: give rows as .npy"
        )
    with needing("tables", "tables need pyarrow"):
        from chiron.client.datasets.tables.conforming import read_matched
        from chiron.client.datasets.tables.opening import open_table

    schema = settled.model_copy(
        update={"input_shape": manifest.input_shape, "input_dtype": manifest.input_dtype}
    )
    table = open_table(source, options.reading.over(settled.reading))
    found = read_matched(
        table,
        schema,
        manifest.task,
        class_names,
        ids=options.ids,
        drop=options.drop,
        show_values=options.show_values,
    )
    return Rows(*found)


def _images(path: Path, manifest: DatasetManifest) -> tuple[tuple[str, ...], NDArray[Any]]:
    with needing("images", "images need Pillow"):
        from chiron.client.datasets.images import read_images

    if len(manifest.input_shape) != 3 or manifest.input_dtype is not InputType.UINT8:
        raise SourceInvalid("this model was not trained on images")
    return read_images(path, manifest.input_shape)
