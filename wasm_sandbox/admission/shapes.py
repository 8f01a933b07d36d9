"""Shapes of every value, by ONNX's own checker and inference, and the memory that they will take.

Inference runs on batches of 1, 4 and 11 examples with parameters as inputs, so every dimension is a number:
what stays unknown depends on data and is refused. Two sizes of a value tell how it grows with the batch, and
the third that it keeps to that. (A batch of 1 is special: Squeeze without axes takes it away.)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from chiron.wasm_sandbox.admission.tensors import count_elements, item_bytes
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

BATCHES = (1, 4, 11)


@dataclass(frozen=True)
class Value:
    """Type and shape of one value."""

    data_type: int
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.dims) * item_bytes(self.data_type)


@dataclass(frozen=True)
class Memory:
    """What running the graph forward takes, if nothing is freed before the end."""

    per_example: int
    """Bytes."""
    fixed: int
    """Bytes."""


@dataclass(frozen=True)
class Section:
    """A graph to infer: nodes between typed inputs and whatever it makes."""

    nodes: Sequence[NodeProto]
    constants: Sequence[TensorProto]
    parameters: Sequence[TensorProto]
    opset: int
    ir_version: int


def forward_values(
    section: Section, source: ValueInfoProto, limits: GraphLimits
) -> tuple[Mapping[str, Value], ...]:
    """All values of the forward graph, for each of `BATCHES`. `source` is the input for one example.

    Raises:
        GraphRefused: graph-invalid, shape-unknown, shape-overflow, type-not-allowed.
    """
    return tuple(_infer(section, _with_batch(source, batch), limits) for batch in BATCHES)


def _with_batch(source: ValueInfoProto, batch: int) -> list[ValueInfoProto]:
    tensor = source.type.tensor_type
    dims = [batch, *(dim.dim_value for dim in tensor.shape.dim[1:])]
    return [helper.make_tensor_value_info(source.name, tensor.elem_type, dims)]


def initial_values(section: Section, limits: GraphLimits) -> Mapping[str, Value]:
    """All values of an initialization graph; raises as `forward_values`."""
    return _infer(section, [], limits)


def _infer(section: Section, inputs: list[ValueInfoProto], limits: GraphLimits) -> Mapping[str, Value]:
    parameters = [helper.make_tensor_value_info(p.name, p.data_type, p.dims) for p in section.parameters]
    # Without an output, since the checker wants an output's rank, which is yet to be found out.
    graph = helper.make_graph(
        section.nodes, "graph", [*inputs, *parameters], [], initializer=section.constants
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", section.opset)], ir_version=section.ir_version
    )
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        ).graph
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as e:
        raise refused(GraphCode.GRAPH_INVALID, str(e)) from None
    found = {
        info.name: _value(info, limits) for info in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    found |= {tensor.name: Value(tensor.data_type, tuple(tensor.dims)) for tensor in section.constants}
    for node in section.nodes:
        for name in filter(None, node.output):
            if name not in found:
                raise refused(GraphCode.SHAPE_UNKNOWN, f"{node.op_type} makes {name}")
    return found


def _value(info: ValueInfoProto, limits: GraphLimits) -> Value:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        raise refused(GraphCode.SHAPE_UNKNOWN, info.name)
    item_bytes(tensor.elem_type)
    dims = tuple(dim.dim_value for dim in tensor.shape.dim)
    most = max(BATCHES) * (limits.activation_bytes_per_example + limits.activation_bytes_fixed)
    count_elements(dims, limits, most)
    return Value(tensor.elem_type, dims)


def activation_memory(
    nodes: Iterable[NodeProto], values: tuple[Mapping[str, Value], ...], limits: GraphLimits
) -> Memory:
    """What the values of the nodes take, from their sizes for each of `BATCHES`.

    Raises:
        GraphRefused: shape-depends-on-batch, activations-too-large, workspace-too-large.
    """
    per_example = fixed = 0
    for node in nodes:
        for name in filter(None, node.output):
            growth, constant = _line([sizes[name].size for sizes in values], f"{node.op_type} makes {name}")
            per_example += growth
            fixed += constant
        if node.op_type == "Conv" and _unrolled(node, values[0]) > limits.workspace_bytes:
            raise refused(GraphCode.WORKSPACE_TOO_LARGE, node.op_type)
    if per_example > limits.activation_bytes_per_example or fixed > limits.activation_bytes_fixed:
        raise refused(GraphCode.ACTIVATIONS_TOO_LARGE, f"{per_example} bytes an example, {fixed} bytes fixed")
    return Memory(per_example, fixed)


def _line(sizes: Sequence[int], what: str) -> tuple[int, int]:
    """Slope and offset of the line through the sizes for `BATCHES`."""
    growth = (sizes[1] - sizes[0]) // (BATCHES[1] - BATCHES[0])
    constant = sizes[0] - BATCHES[0] * growth
    on_line = all(size == constant + batch * growth for size, batch in zip(sizes, BATCHES, strict=True))
    if not on_line or growth < 0 or constant < 0:
        raise refused(GraphCode.SHAPE_DEPENDS_ON_BATCH, what)
    return growth, constant


def _unrolled(node: NodeProto, values: Mapping[str, Value]) -> int:
    """Bytes of a convolution's im2col matrix for one example: window elements × output positions."""
    window = values[node.input[1]].dims[1:]
    return math.prod(window) * math.prod(values[node.output[0]].dims[2:]) * 4
