"""The layout of a learner's arrays: the flat vector of a graph, and the bytes of a sealed checkpoint.

The vector holds every parameter and buffer one after the other, sorted by name. A checkpoint is canonical
tensors (`chiron.runtime.datasets.tensors`), whose form follows from graph and recipe, so nothing in the bytes
chooses a size. All randomness is derived from seed and step, so no generator is in it.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets.tensors import Form, TensorLayout
from chiron.runtime.errors import TensorsMalformed
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.graph import Parameter

Vector = NDArray[np.float32]


class FlatLayout:
    """The place of each parameter in the flat float32 vector [elements]."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.spans: dict[str, slice] = {}
        end = 0
        for parameter in parameters:
            self.spans[parameter.name] = slice(end, end + prod(parameter.shape))
            end += prod(parameter.shape)
        self.elements = end

    def views(self, vector: Vector) -> dict[str, Vector]:
        """Each parameter's part of `vector`, in its shape, without a copy."""
        return {p.name: vector[self.spans[p.name]].reshape(p.shape) for p in self.parameters}

    def pack(self, values: Mapping[str, NDArray[np.float32]]) -> Vector:
        """The flat vector of these values."""
        vector = np.empty(self.elements, np.float32)
        for name, view in self.views(vector).items():
            view[...] = values[name]
        return vector


Tensors = Mapping[str, NDArray[Any]]


def dump_tensors(tensors: Tensors) -> bytes:
    """The bytes of float32 and float64 arrays; float64 is kept bit for bit."""
    carried = {name: _carried(array) for name, array in tensors.items()}
    return _layout(carried).dump(carried)


def dump_tensors_into(buffer: memoryview, tensors: Tensors) -> int:
    """Write what `dump_tensors` gives to the beginning of `buffer`, which must be long enough; its length."""
    carried = {name: _carried(array) for name, array in tensors.items()}
    layout = _layout(carried)
    layout.dump_into(buffer[: layout.size], carried)
    return layout.size


def load_tensors(data: bytes, into: Tensors) -> None:
    """Fill `into` with what `dump_tensors` wrote for arrays of the same names, types and shapes.

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
