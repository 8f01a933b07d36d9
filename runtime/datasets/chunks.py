"""A chunk: `chunk_examples` rows of inputs and targets, encoded, padded and sealed to one public size.

Plaintext: canonical safetensors of `x` [rows, *input_shape] in the input type and `y` [rows, *target_shape]
in int64 (class indices) or float32; the last chunk is filled up with zero rows. Sealed by STREAM
(`chiron.runtime.sealing.stream`) under the dataset's own random key, with the dataset's id and the digest of
its header as associated data: a chunk opens in its place, in its dataset, and nowhere else.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets.tensors import Form, TensorLayout, is_blank
from chiron.runtime.errors import (
    ChunkMalformed,
    ChunkUnopenable,
    DatasetTruncated,
    ExamplesInvalid,
    OpenFailed,
    TensorsMalformed,
)
from chiron.runtime.sealing import stream
from chiron.wire.contract import InputType, Task
from chiron.wire.datasets import DatasetManifest
from chiron.wire.labels import DATASET, bind


class Examples(NamedTuple):
    """Rows of a dataset: `x` [n, *input_shape] uint8 or float32, `y` [n, *target_shape] int64 or float32."""

    x: NDArray[Any]
    y: NDArray[Any]


class ChunkForm(NamedTuple):
    """What decides how a chunk is written: public, and known before the first row is read."""

    task: Task
    input_shape: tuple[int, ...]
    input_dtype: InputType
    target_shape: tuple[int, ...]
    classes: int
    rows: int

    @classmethod
    def of(cls, manifest: DatasetManifest) -> "ChunkForm":
        """The form of a manifest's chunks."""
        return cls(
            manifest.task,
            manifest.input_shape,
            manifest.input_dtype,
            manifest.target_shape,
            manifest.classes,
            manifest.chunk_examples,
        )

    @property
    def target_dtype(self) -> np.dtype[Any]:
        """int64 class indices, or float32 values."""
        return np.dtype("int64" if self.task is Task.CLASSIFICATION else "float32")

    def layout(self) -> TensorLayout:
        """Where `x` and `y` lie in a plaintext."""
        inputs = Form(np.dtype(self.input_dtype.value), (self.rows, *self.input_shape))
        targets = Form(self.target_dtype, (self.rows, *self.target_shape))
        return TensorLayout({"x": inputs, "y": targets})

    @property
    def ciphertext_bytes(self) -> int:
        """Size of every sealed chunk."""
        return self.layout().size + stream.TAG_BYTES

    def encode(self, examples: Examples) -> bytes:
        """Plaintext of 1 to `rows` examples.

        Raises:
            ExamplesInvalid: their number, shapes, types or class indices are not of this form.
        """
        count = len(examples.x)
        if not 1 <= count <= self.rows or len(examples.y) != count:
            raise ExamplesInvalid(f"a chunk holds 1 to {self.rows} inputs and as many targets")
        self._check_classes(examples.y)
        try:
            return self.layout().dump(
                {"x": _filled(examples.x, self.rows), "y": _filled(examples.y, self.rows)}
            )
        except TensorsMalformed as error:
            raise ExamplesInvalid(str(error)) from error

    def decode(self, plaintext: bytes, count: int) -> Examples:
        """The first `count` rows of what `encode` wrote, as read-only views.

        Raises:
            ChunkMalformed: it is not that, has rows beyond `count`, or class indices out of range.
        """
        try:
            arrays = self.layout().load(plaintext)
        except TensorsMalformed as error:
            raise ChunkMalformed(f"the chunk is {error}") from error
        if not is_blank(arrays["x"][count:]) or not is_blank(arrays["y"][count:]):
            raise ChunkMalformed("the chunk has rows after its last example")
        examples = Examples(arrays["x"][:count], arrays["y"][:count])
        try:
            self._check_classes(examples.y)
        except ExamplesInvalid as error:
            # Native code indexes by these: an index out of range must never reach it.
            raise ChunkMalformed(str(error)) from error
        return examples

    def _check_classes(self, y: NDArray[Any]) -> None:
        if self.task is Task.CLASSIFICATION and len(y) and not (y.min() >= 0 and y.max() < self.classes):
            raise ExamplesInvalid(f"class indices must be from 0 to {self.classes - 1}")


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    if len(rows) == count:
        return rows
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])


def associated_data(dataset_id: str, header_digest: str) -> bytes:
    """What every chunk of a dataset is bound to besides its place."""
    return bind(DATASET, bytes.fromhex(dataset_id) + bytes.fromhex(header_digest))


def open_chunk(key: bytes, number: int, ciphertext: bytes, *, last: bool, bound: bytes) -> bytes:
    """Plaintext of chunk `number` of the dataset whose `associated_data` is `bound`.

    Raises:
        DatasetTruncated: it was sealed as the last chunk and the manifest goes on, or the other way round.
        ChunkUnopenable: it was sealed for another place or dataset, or with another key.
    """
    try:
        return stream.open_chunk(key, number, ciphertext, last=last, associated_data=bound)
    except OpenFailed as error:
        try:
            stream.open_chunk(key, number, ciphertext, last=not last, associated_data=bound)
        except OpenFailed:
            raise ChunkUnopenable(f"chunk {number} was not sealed for this place and key") from error
        raise DatasetTruncated(f"chunk {number} does not end the dataset where the manifest does") from error
