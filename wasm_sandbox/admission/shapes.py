"""Shapes of every value: node by node, each held to the bounds before the next one is looked at.

ONNX infers one node at a time, and is given short lists of numbers that were checked: its own propagation of
data through a graph has no bound, and a graph of 500 bytes exhausts it. What shapes are made of is worked out
here (`shape_values`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper

from chiron.wasm_sandbox.admission.operators import LIST_INPUTS, SHAPE_INPUTS
from chiron.wasm_sandbox.admission.shape_values import (
    Numbers,
    as_tensor,
    known_numbers,
    numbers_of,
    sizes_of,
)
from chiron.wasm_sandbox.admission.tensors import count_elements, item_bytes
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

_TAKEN_FROM_INPUT = frozenset({0, -1})
"""What Reshape may be given in place of a dimension."""


@dataclass(frozen=True)
class Value:
    """Type and shape of one value."""

    data_type: int
    dims: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many."""
        return math.prod(self.dims)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * item_bytes(self.data_type)


Values = Mapping[str, Value]


@dataclass(frozen=True)
class Section:
    """A graph to infer: nodes between typed inputs and whatever it makes."""

    nodes: Sequence[NodeProto]
    constants: Sequence[TensorProto]
    """Initializers with data."""
    known: Mapping[str, TensorProto]
    """These, and what Constant nodes make."""
    parameters: Sequence[TensorProto]
    opset: int
    ir_version: int


def infer(section: Section, inputs: Values, limits: GraphLimits, elements: int) -> Values:
    """Every value of a section with these inputs, none of more than so many `elements`.

    Raises:
        GraphRefused: graph-invalid, shape-unknown, shape-overflow, type-not-allowed.
    """
    values = dict(inputs)
    for tensor in (*section.constants, *section.parameters):
        values[tensor.name] = Value(tensor.data_type, tuple(tensor.dims))
    types = {
        name: helper.make_tensor_type_proto(value.data_type, value.dims) for name, value in values.items()
    }
    numbers = known_numbers(section.known, limits)
    for node in section.nodes:
        _check_shape_operand(node, numbers, section.known, limits)
        for name, kind in _infer_node(section, node, types, numbers).items():
            values[name], types[name] = _value(name, kind, limits, elements), kind
        for name in filter(None, node.output):
            if name not in values:
                raise refused(GraphCode.SHAPE_UNKNOWN, f"{node.op_type} makes {name}")
        output = node.output[0]
        if node.op_type == "Shape":
            made: Numbers | None = sizes_of(node, values[node.input[0]].dims)
        else:
            made = numbers_of(node, numbers, section.known, values[output].dims, limits)
        if made is not None:
            numbers[output] = made
    return values


def _check_shape_operand(
    node: NodeProto, numbers: Mapping[str, Numbers], known: Mapping[str, TensorProto], limits: GraphLimits
) -> None:
    """Hold a shape to dimensions, before native inference multiplies them; it may not be unknown."""
    position = SHAPE_INPUTS.get(node.op_type)
    if position is None or len(node.input) <= position:
        return
    if node.input[position] not in numbers:
        code = GraphCode.SHAPE_OVERFLOW if node.input[position] in known else GraphCode.SHAPE_UNKNOWN
        raise refused(code, f"{node.op_type} to a shape that is too long, or calculated")
    shape = numbers[node.input[position]].reshape(-1).tolist()
    free = _TAKEN_FROM_INPUT if node.op_type == "Reshape" else ()
    dims = [dim for dim in shape if dim not in free]
    if (
        len(shape) > limits.rank
        or any(not 1 <= dim <= limits.dimension for dim in dims)
        or math.prod(dims) > limits.activation_bytes_per_example
    ):
        raise refused(GraphCode.SHAPE_OVERFLOW, f"{node.op_type} to {shape[:9]}")


def _infer_node(
    section: Section, node: NodeProto, types: Mapping[str, TypeProto], numbers: Mapping[str, Numbers]
) -> Mapping[str, TypeProto]:
    """Types of a node's outputs, by ONNX's own inference; whatever that raises is a refusal."""
    positions = LIST_INPUTS.get(node.op_type, ())
    data = {name: section.known[name] for n, name in enumerate(node.input) if name and n in positions}
    shape = SHAPE_INPUTS.get(node.op_type)
    if shape is not None and len(node.input) > shape:
        data[node.input[shape]] = as_tensor(numbers[node.input[shape]])
    try:
        return onnx.shape_inference.infer_node_outputs(
            _schema(node.op_type, section.opset),
            node,
            {name: types[name] for name in node.input if name},
            data,
            opset_imports=[helper.make_opsetid("", section.opset)],
            ir_version=section.ir_version,
        )
    except Exception as error:
        raise refused(GraphCode.GRAPH_INVALID, f"{node.op_type}: {error}") from None


@cache
def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op_type, max_inclusive_version=opset)


def _value(name: str, kind: TypeProto, limits: GraphLimits, elements: int) -> Value:
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise refused(GraphCode.SHAPE_UNKNOWN, name)
    item_bytes(tensor.elem_type)
    dims = tuple(dim.dim_value for dim in tensor.shape.dim)
    count_elements(dims, limits, elements)
    return Value(tensor.elem_type, dims)
