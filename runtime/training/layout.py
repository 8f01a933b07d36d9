"""The flat vector: every parameter and buffer of a graph, one after the other, sorted by name."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from chiron.wasm_sandbox.graph import Parameter

Vector = NDArray[np.float32]


class FlatLayout:
    """Where each parameter lies in the flat float32 vector [elements]."""

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
