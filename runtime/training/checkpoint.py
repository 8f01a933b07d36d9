"""A learner's state between two exchanges as bytes of one size, for sealed checkpoints.

Canonical tensors (`chiron.runtime.datasets.tensors`): the form follows from graph and recipe, so nothing in
the bytes chooses a size. All randomness is derived from seed and step, so no generator is in it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets.tensors import Form, TensorLayout
from chiron.runtime.errors import TensorsMalformed
from chiron.runtime.training.errors import Reason, TrainingFailed

Tensors = Mapping[str, NDArray[Any]]


def dump(tensors: Tensors) -> bytes:
    """The bytes of float32 and float64 arrays; float64 is kept bit for bit."""
    carried = {name: _carried(array) for name, array in tensors.items()}
    return _layout(carried).dump(carried)


def dump_into(buffer: memoryview, tensors: Tensors) -> int:
    """As `dump`, to the beginning of `buffer`, which must be long enough; the number of bytes."""
    carried = {name: _carried(array) for name, array in tensors.items()}
    layout = _layout(carried)
    layout.dump_into(buffer[: layout.size], carried)
    return layout.size


def load(data: bytes, into: Tensors) -> None:
    """Fill `into` with what `dump` wrote for arrays of the same names, types and shapes.

    Raises:
        TrainingFailed: training-state-invalid; `into` is unchanged.
    """
    carried = {name: _carried(array) for name, array in into.items()}
    try:
        loaded = _layout(carried).load(data)
    except TensorsMalformed as error:
        raise TrainingFailed(Reason.STATE_INVALID) from error
    for name, array in into.items():
        array[...] = loaded[name].view(array.dtype)


def _carried(array: NDArray[Any]) -> NDArray[Any]:
    """The carrier has no float64: its bits travel as int64."""
    return array.view(np.int64) if array.dtype == np.float64 else array


def _layout(arrays: Tensors) -> TensorLayout:
    return TensorLayout({name: Form(array.dtype, array.shape) for name, array in arrays.items()})
