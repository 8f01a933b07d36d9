"""An admitted graph: what of a builder's ONNX model the runtime works with, and nothing else of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto


@dataclass(frozen=True)
class Parameter:
    """One tensor of float32 values that the graph is trained in, or keeps (a buffer)."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    """False for the running mean and variance of a batch normalisation."""

    @property
    def elements(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class AdmittedGraph:
    """Made by `chiron.wasm_sandbox.admission.admit` only. Treat the models as immutable."""

    forward: ModelProto
    """`input` [N, …] to `output` [N, …]; constants as initializers; parameters are not in it."""
    initialization: ModelProto
    """No inputs; one output for each parameter, of its name. Random operators have no seed yet.

    Where the graph asks for pretrained tensors and was admitted without the component's assets, their outputs
    are missing: whoever needs initial values then gets an error, not zeros.
    """
    parameters: tuple[Parameter, ...]
    """Sorted by name: the layout of the flat float32 vector."""
    activation_bytes_per_example: int
    """All values of one example, forward; a training step holds about twice as much."""
    activation_bytes_fixed: int
    """All values that do not grow with the batch."""

    @cached_property
    def elements(self) -> int:
        """Length of the flat vector: all parameters, buffers among them."""
        return sum(parameter.elements for parameter in self.parameters)

    def with_values(self, values: Mapping[str, NDArray[np.float32]]) -> ModelProto:
        """The forward model with these values as initializers: what onnxruntime runs and trains.

        Args:
            values: float32 of each parameter's shape, by name; exactly all parameters.

        Raises:
            ValueError: a value is missing, superfluous, or of another type or shape.
        """
        if values.keys() != {parameter.name for parameter in self.parameters}:
            raise ValueError("values must be those of the graph's parameters")
        model = ModelProto()
        model.CopyFrom(self.forward)
        for parameter in self.parameters:
            value = values[parameter.name]
            if value.dtype != np.float32 or value.shape != parameter.shape:
                raise ValueError(f"parameter of shape {parameter.shape} got {value.dtype} {value.shape}")
            model.graph.initializer.append(
                TensorProto(
                    name=parameter.name,
                    data_type=TensorProto.FLOAT,
                    dims=parameter.shape,
                    raw_data=np.ascontiguousarray(value, "<f4").tobytes(),
                )
            )
        return model
