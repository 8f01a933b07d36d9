"""How parameters get their first values: from the initialization graph, or from a pretrained tensor.

The initialization graph (ONNX `TrainingInfoProto`) has no input and no loop, and what it makes is bounded by
the parameters' own sizes. The runtime computes the values, with the job's seed in every random operator.
The component carries pretrained tensors (`chiron.wasm_sandbox.assets`).

Source: https://github.com/onnx/onnx/blob/main/docs/IR.md, "Training Related Information".
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import (
    ModelProto,
    NodeProto,
    StringStringEntryProto,
    TensorProto,
    TrainingInfoProto,
    helper,
    numpy_helper,
)
from safetensors import deserialize

from chiron.wasm_sandbox.admission.nodes import check_nodes, known_values
from chiron.wasm_sandbox.admission.operators import INITIALIZERS
from chiron.wasm_sandbox.admission.shapes import Section, Value, infer
from chiron.wasm_sandbox.admission.tensors import Tensors, check_constants, has_data
from chiron.wasm_sandbox.assets import Assets
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

_Entries = list[tuple[str, Mapping[str, object]]]
_LARGEST_VALUE = 2**31
"""Elements, whatever is made of them."""
_INTERNAL = "·"
"""Set before the graph's own names. Admitted names are ASCII, so none begins with it."""


def read_initialization(
    infos: Sequence[TrainingInfoProto],
    parameters: Sequence[TensorProto],
    opset: int,
    ir_version: int,
    limits: GraphLimits,
) -> ModelProto:
    """A model without inputs whose outputs are named by the parameters that they initialise.

    `parameters` are those that do not begin as a pretrained tensor.

    Raises:
        GraphRefused: initialization-missing, initialization-not-allowed, initialization-mismatch,
            initialization-too-large, and what nodes and shapes may be refused for.
    """
    if len(infos) != 1 and (infos or parameters):
        raise refused(GraphCode.INITIALIZATION_MISSING, f"{len(infos)} TrainingInfoProto")
    info = infos[0] if infos else TrainingInfoProto()
    graph = info.initialization
    bound = _bindings(info.initialization_binding, parameters)
    if graph.input:
        raise refused(GraphCode.INITIALIZATION_NOT_ALLOWED, "it has inputs")
    if any(not has_data(tensor) for tensor in graph.initializer):
        raise refused(GraphCode.INITIALIZATION_NOT_ALLOWED, "it has initializers without data")
    check_constants(graph.initializer, limits)
    constants = [tensor.name for tensor in graph.initializer]
    check_nodes(graph.node, constants, INITIALIZERS, limits, foreign=GraphCode.INITIALIZATION_NOT_ALLOWED)
    known = known_values(graph.node, graph.initializer)
    _check_ranges(graph.node)
    section = Section(graph.node, graph.initializer, known, (), opset, ir_version)
    values = infer(section, {}, limits, _LARGEST_VALUE)
    _check_sizes(graph.node, values, parameters, limits)
    _check_values(bound, values, parameters)
    return _model(graph.node, graph.initializer, bound, parameters, opset, ir_version)


def _check_ranges(nodes: Iterable[NodeProto]) -> None:
    """The lower bound of a uniform distribution is below the upper; these are 0 and 1 unless given."""
    for node in nodes:
        if node.op_type == "RandomUniform":
            attributes = {attribute.name: attribute.f for attribute in node.attribute}
            if not attributes.get("low", 0.0) < attributes.get("high", 1.0):
                raise refused(GraphCode.ATTRIBUTE_NOT_ALLOWED, "RandomUniform from high to low")


def _bindings(
    entries: Sequence[StringStringEntryProto], parameters: Sequence[TensorProto]
) -> Mapping[str, str]:
    bound = {entry.key: entry.value for entry in entries}
    if len(bound) != len(entries) or bound.keys() != {tensor.name for tensor in parameters}:
        raise refused(
            GraphCode.INITIALIZATION_MISSING, f"{len(entries)} bindings, {len(parameters)} parameters"
        )
    return bound


def _check_sizes(
    nodes: Sequence[NodeProto],
    values: Mapping[str, Value],
    parameters: Sequence[TensorProto],
    limits: GraphLimits,
) -> None:
    made = sum(values[name].size // 4 for node in nodes for name in filter(None, node.output))
    wanted = sum(Value(tensor.data_type, tuple(tensor.dims)).size // 4 for tensor in parameters)
    if made > limits.initialization_ratio * wanted + limits.initialization_elements:
        raise refused(GraphCode.INITIALIZATION_TOO_LARGE, f"{made} elements")


def _check_values(
    bound: Mapping[str, str], values: Mapping[str, Value], parameters: Sequence[TensorProto]
) -> None:
    for tensor in parameters:
        value = values.get(bound[tensor.name])
        if value != Value(tensor.data_type, tuple(tensor.dims)):
            raise refused(GraphCode.INITIALIZATION_MISMATCH, tensor.name)


def _model(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    bound: Mapping[str, str],
    parameters: Sequence[TensorProto],
    opset: int,
    ir_version: int,
) -> ModelProto:
    made = [_renamed(node) for node in nodes]
    made += [helper.make_node("Identity", [_INTERNAL + bound[p.name]], [p.name]) for p in parameters]
    graph = helper.make_graph(
        made,
        "initialization",
        [],
        [helper.make_tensor_value_info(p.name, p.data_type, p.dims) for p in parameters],
    )
    for constant in constants:
        tensor = graph.initializer.add()
        tensor.CopyFrom(constant)
        tensor.name = _INTERNAL + constant.name
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="chiron"
    )


def _renamed(node: NodeProto) -> NodeProto:
    renamed = NodeProto(op_type=node.op_type)
    renamed.input.extend(_INTERNAL + name if name else "" for name in node.input)
    renamed.output.extend(_INTERNAL + name if name else "" for name in node.output)
    # The runtime sets the job's seed; one of the builder's choosing would be the same in every job.
    renamed.attribute.extend(attribute for attribute in node.attribute if attribute.name != "seed")
    return renamed


def add_pretrained(
    initialization: ModelProto, tensors: Tensors, pretrained: Mapping[str, str], assets: Assets
) -> None:
    """Give each pretrained parameter its value in the initialization model.

    Args:
        initialization: the model to add to; each parameter becomes one more output.
        tensors: the graph's, for the parameters' shapes.
        pretrained: `file/tensor` by parameter.
        assets: what the component carries.

    Raises:
        GraphRefused: asset-unknown, asset-invalid.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in tensors.parameters}
    parsed: dict[str, _Entries] = {}
    graph = initialization.graph
    for name, reference in pretrained.items():
        value, inner = _tensor(assets, reference, shapes[name], parsed), f"·asset.{name}"
        graph.initializer.append(numpy_helper.from_array(value, inner))
        graph.node.append(helper.make_node("Identity", [inner], [name]))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]))


def _tensor(
    assets: Assets, reference: str, shape: tuple[int, ...], parsed: dict[str, _Entries]
) -> NDArray[np.float32]:
    name, _, inner = reference.partition("/")
    if name not in assets.files:
        raise refused(GraphCode.ASSET_UNKNOWN, reference)
    if name not in parsed:
        parsed[name] = _entries(name, assets.files[name])
    for found, entry in parsed[name]:
        if found == inner:
            return _float32(entry, shape, reference)
    raise refused(GraphCode.ASSET_UNKNOWN, reference)


def _entries(name: str, content: bytes) -> _Entries:
    try:
        entries: _Entries = deserialize(content)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise refused(GraphCode.ASSET_INVALID, f"{name}: {error}") from None
    return entries


def _float32(entry: Mapping[str, object], shape: tuple[int, ...], reference: str) -> NDArray[np.float32]:
    data = entry["data"]
    if entry["dtype"] != "F32" or entry["shape"] != list(shape) or not isinstance(data, bytes | bytearray):
        raise refused(GraphCode.ASSET_INVALID, f"{reference} is {entry['dtype']} {entry['shape']}")
    value = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(value).all():
        raise refused(GraphCode.ASSET_INVALID, f"{reference} is not finite")
    return value
