"""What every source of training data offers, and the simplest one: NumPy arrays.

Arrays may be in memory, memory-mapped, or out of an .npz file.
"""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfileobj
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chiron.client.datasets.understood import ClassCount, Understood
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Settled
from chiron.runtime.datasets import ChunkForm, Examples
from chiron.wire.contract import InputType, Task

MAX_CLASSES = 100_000
MAX_RANK = 4
"""Dimensions of one example."""
_CHANNELS = (1, 3, 4)
_INPUT_NAMES = ("x", "X", "x_train", "images", "inputs", "data", "features", "arr_0")
_TARGET_NAMES = ("y", "Y", "y_train", "labels", "targets", "target", "label", "arr_1")


@dataclass(frozen=True)
class Description:
    """A source's form, known before its examples are read for encryption."""

    task: Task
    input_shape: tuple[int, ...]
    """One example's, without the batch dimension; images are [channels, height, width]."""
    input_dtype: InputType
    examples: int
    target_shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = field(default=())
    """Classification: the name of each class, in the order of the indices."""
    settled: Settled | None = None
    """How the next file of the same data is read and encoded, where its kind has something to settle."""
    told: Understood | None = field(default=None, compare=False)
    """What the reader understood; `understood` for a source that says nothing."""

    def chunk_form(self, rows: int) -> ChunkForm:
        """The form of chunks of `rows` examples."""
        classes = len(self.class_names)
        return ChunkForm(self.task, self.input_shape, self.input_dtype, self.target_shape, classes, rows)

    @property
    def understood(self) -> Understood:
        """What is told of it before anything is encrypted."""
        if self.told is not None:
            return self.told
        form = (self.input_shape, self.input_dtype.value)
        classes = tuple(ClassCount(name, None) for name in self.class_names)
        return Understood("data", self.examples, self.task, "its source says so", *form, classes=classes)

    @property
    def example_bytes(self) -> int:
        """Plaintext bytes of one example."""
        layout = self.chunk_form(1).layout()
        return sum(entry.size for entry in layout.forms.values())


class Source(Protocol):
    """Training data. Reading never holds more than a few batches."""

    @property
    def description(self) -> Description:
        """The source's form."""
        ...

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The examples numbered `rows`, once each, in batches of `size` (the last may be smaller).

        In the order of `rows` where the source can be read anywhere. One that can only be read from front
        to back mixes its rows within a window of a few batches.

        Raises:
            SourceInvalid: an example cannot be read, or is not of the described form.
        """
        ...


class ArraySource:
    """`x` [n, …] and `y` [n] or [n, …].

    Integer, boolean or text targets make a classification, floats a regression. uint8 and boolean inputs
    stay one byte an element; every other number becomes float32.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        task: Task | None = None,
        class_names: Sequence[str] | None = None,
        source: str = "arrays",
    ) -> None:
        """`source` is what the data is called where it is told what was understood of it.

        Raises:
            SourceInvalid: lengths differ, there are no examples, or a type cannot be meant.
        """
        self._x = channels_first(_numeric(np.asanyarray(x)))
        turned = self._x.shape != np.shape(x)
        self._y = _targets(np.asanyarray(y))
        if len(self._x) != len(self._y) or len(self._x) == 0:
            raise SourceInvalid(f"there are {len(self._x)} inputs and {len(self._y)} targets")
        chosen = task or (Task.REGRESSION if self._y.dtype.kind == "f" else Task.CLASSIFICATION)
        self._classes: NDArray[Any] | None = None
        names: tuple[str, ...] = ()
        if chosen is Task.CLASSIFICATION:
            names = self._find_classes(class_names)
        small = self._x.dtype.kind == "b" or self._x.dtype == np.uint8
        shape, dtype = tuple(self._x.shape[1:]), InputType.UINT8 if small else InputType.FLOAT32
        why = "you said so" if task else f"targets are {self._y.dtype}"
        self.description = Description(
            task=chosen,
            input_shape=shape,
            input_dtype=dtype,
            examples=len(self._x),
            target_shape=() if chosen is Task.CLASSIFICATION else tuple(self._y.shape[1:]),
            class_names=names,
            told=Understood(
                source,
                len(self._x),
                chosen,
                why,
                shape,
                dtype.value,
                classes=self._counts(names),
                facts={"images": "[n, height, width, channels], turned"} if turned else {},
            ),
        )

    def _counts(self, names: Sequence[str]) -> tuple[ClassCount, ...]:
        if self._classes is None:
            return ()
        counts = np.bincount(np.searchsorted(self._classes, self._y), minlength=len(names))
        return tuple(ClassCount(name, int(count)) for name, count in zip(names, counts, strict=True))

    def _find_classes(self, class_names: Sequence[str] | None) -> tuple[str, ...]:
        if self._y.ndim != 1 or self._y.dtype.kind not in "iubUSO":
            raise SourceInvalid("class targets must be one whole number or name an example")
        classes = np.unique(self._y)
        if class_names and self._y.dtype.kind in "iu":
            if classes[0] < 0 or classes[-1] >= len(class_names):
                raise SourceInvalid(f"targets must be from 0 to {len(class_names) - 1}")
            self._classes = np.arange(len(class_names))
            return tuple(class_names)
        if not 2 <= len(classes) <= MAX_CLASSES:
            raise SourceInvalid(f"the targets hold {len(classes)} classes: 2 to {MAX_CLASSES} can be learnt")
        self._classes = classes
        return tuple(str(name) for name in classes)

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The rows numbered `rows`, in that order; see `Source.read`."""
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield Examples(self._inputs(chosen), self._targets(chosen))

    def _inputs(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        given, dtype = self._x[rows], np.dtype(self.description.input_dtype.value)
        narrow = np.ascontiguousarray(given, dtype)
        if dtype == np.float32 and given.dtype.kind in "iu":
            lost = narrow.astype(given.dtype) != given
            if lost.any():
                row = int(rows[np.argwhere(lost)[0][0]])
                raise SourceInvalid(
                    f"row {row}, from 0: a whole number too large for 32 bits to hold exactly"
                )
        return finite(narrow, "an input")

    def _targets(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if self._classes is not None:
            return np.searchsorted(self._classes, self._y[rows]).astype(np.int64)
        return finite(np.ascontiguousarray(self._y[rows], np.float32), "a target")


def finite(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Refuse what no training survives.

    Raises:
        SourceInvalid: a value is missing or infinite.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SourceInvalid(f"{what} is missing or not finite", code="source-not-finite")
    return array


def _numeric(x: NDArray[Any]) -> NDArray[Any]:
    if x.dtype.kind not in "biuf" or x.ndim < 1:
        raise SourceInvalid(f"inputs must be numbers, not {x.dtype}")
    if x.ndim - 1 > MAX_RANK or 0 in x.shape[1:]:
        raise SourceInvalid(
            f"inputs of shape {list(x.shape)}: an example has a number at least, and "
            f"{MAX_RANK} dimensions at most"
        )
    return x


def channels_first(x: NDArray[Any]) -> NDArray[Any]:
    """Images as [n, channels, height, width], turned if they are [n, height, width, channels], as Keras's."""
    last = x.ndim == 4 and x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS
    return x.transpose(0, 3, 1, 2) if last else x


def _targets(y: NDArray[Any]) -> NDArray[Any]:
    """Targets, one an example; names that are bytes become text.

    Raises:
        SourceInvalid: there is a single one for all, or bytes that are no UTF-8.
    """
    if y.ndim == 0:
        raise SourceInvalid("the targets are a single value: one an example is needed, [n]")
    if y.dtype.kind != "S":
        return y
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError:
        raise SourceInvalid("the targets are bytes that are no UTF-8: name the classes with text") from None


def npz_source(
    path: Path, *, task: Task | None = None, class_names: Sequence[str] | None = None
) -> ArraySource:
    """Inputs and targets out of an .npz file, memory-mapped: it may be larger than memory.

    Raises:
        SourceInvalid: it is no .npz file, or does not hold one array of inputs and one of targets.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            inputs = _pick(names, _INPUT_NAMES, "inputs", path)
            targets = _pick(names, _TARGET_NAMES, "targets", path)
            x, y = _mapped(archive, names[inputs]), _mapped(archive, names[targets])
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise SourceInvalid(f"{path.name} is not a readable .npz file") from error
    return ArraySource(x, y, task=task, class_names=class_names, source=path.name)


def _pick(names: dict[str, str], accepted: tuple[str, ...], what: str, path: Path) -> str:
    found = [name for name in accepted if name in names]
    if not found:
        raise SourceInvalid(f"{path.name} has no array of {what}: name it {accepted[0]!r}")
    return found[0]


def _mapped(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """One array of an .npz, mapped from a nameless temporary file that ends with the process."""
    with tempfile.TemporaryDirectory(prefix="chiron-") as directory:
        path = Path(directory) / "array.npy"
        with archive.open(member) as packed, path.open("wb") as unpacked:
            copyfileobj(packed, unpacked, 1 << 20)
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
