"""Which of a model's tensors are trained, and what they begin with."""

from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from chiron.builder_kit.errors import ModelUnsuitable
from chiron.wasm_sandbox.admission.tensors import ASSET_KEY

ASSET = "weights"
"""Name of the asset that carries a packed model's weights."""
_WEIGHTS = {
    "BatchNormalization": range(1, 5),
    "Conv": range(1, 3),
    "Gather": range(1),
    "Gemm": range(1, 3),
    "LayerNormalization": range(1, 3),
    "MatMul": range(2),
}
"""Inputs of an operator that are trained, however small they are."""
_ELEMENTWISE = frozenset({"Add", "Mul"})
"""Their operands are trained where they have several elements and work on a trained value (a bias)."""
_ONES = frozenset({("BatchNormalization", 1), ("BatchNormalization", 4), ("LayerNormalization", 1)})
_STANDARD_DEVIATION = 0.02


@dataclass(frozen=True)
class Parameters:
    """What was found."""

    elements: int
    values: dict[str, NDArray[np.float32]]
    """The weights to carry, by name; empty where they are drawn anew."""


def as_parameters(model: ModelProto, *, keep: bool) -> Parameters:
    """Take the data out of the trained tensors of the model, and say how they begin.

    Raises:
        ModelUnsuitable: there is none.
    """
    roles = _roles(model.graph)
    values: dict[str, NDArray[np.float32]] = {}
    initialization = GraphProto(name="initialization")
    training = model.training_info.add()
    elements = 0
    for tensor in model.graph.initializer:
        role = roles.get(tensor.name)
        if role is None or tensor.data_type != TensorProto.FLOAT:
            continue
        value = np.asarray(numpy_helper.to_array(tensor), np.float32)
        elements += value.size
        _empty(tensor)
        if keep:
            values[tensor.name] = np.ascontiguousarray(value)
            tensor.metadata_props.add(key=ASSET_KEY, value=f"{ASSET}/{tensor.name}")
            continue
        made = f"initial.{tensor.name}"
        initialization.node.extend(_fresh(made, value.shape, role))
        training.initialization_binding.add(key=tensor.name, value=made)
    if not elements:
        raise ModelUnsuitable("it has no weights that could be trained")
    training.initialization.CopyFrom(initialization)
    if keep:
        del model.training_info[:]
    return Parameters(elements, values)


def _empty(tensor: TensorProto) -> None:
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)


@dataclass(frozen=True)
class _Role:
    """A trained tensor's first use."""

    operator: str
    position: int
    fan_in_axes: slice
    """Dimensions of the tensor that an output element sums over."""


def _roles(graph: GraphProto) -> dict[str, _Role]:
    roles: dict[str, _Role] = {}
    sizes = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    dependent: set[str] = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in sizes and _is_trained(node, position, sizes[name], dependent):
                roles.setdefault(name, _Role(node.op_type, position, _summed(node)))
        if not (dependent | roles.keys()).isdisjoint(node.input):
            dependent.update(node.output)
    return roles


def _summed(node: NodeProto) -> slice:
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return slice(1, None) if node.op_type == "Conv" or turned else slice(0, -1)


def _is_trained(node: NodeProto, position: int, size: int, dependent: set[str]) -> bool:
    if position in _WEIGHTS.get(node.op_type, ()):
        return True
    return node.op_type in _ELEMENTWISE and size > 1 and not dependent.isdisjoint(node.input)


def _fresh(name: str, shape: tuple[int, ...], role: _Role) -> list[NodeProto]:
    """He for matrices and windows, 1 for scales and variances, 0 for biases and means."""
    if len(shape) < 2:
        filled = helper.make_tensor(
            "value", TensorProto.FLOAT, [1], [1.0 if (role.operator, role.position) in _ONES else 0.0]
        )
        size = helper.make_tensor("size", TensorProto.INT64, [len(shape)], shape)
        return [
            helper.make_node("Constant", [], [f"{name}.shape"], value=size),
            helper.make_node("ConstantOfShape", [f"{name}.shape"], [name], value=filled),
        ]
    embedding = role.operator == "Gather"
    scale = _STANDARD_DEVIATION if embedding else sqrt(2 / prod(shape[role.fan_in_axes]))
    return [helper.make_node("RandomNormal", [], [name], shape=shape, scale=float(scale))]
