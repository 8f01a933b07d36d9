"""Reads an exported model: one input, one output, a batch of any size, an operator set that is supported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, version_converter

from chiron.builder_kit.errors import ModelUnsuitable
from chiron.wasm_sandbox.admission import INPUT, OUTPUT
from chiron.wasm_sandbox.limits import HIGHEST_IR, HIGHEST_OPSET, LOWEST_OPSET
from chiron.wire.contract import MAX_COMPONENT_BYTES, Task

_INPUT_TYPES = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
_USUAL_OPSET = 17
CLASSICAL_DOMAIN = "ai.onnx.ml"


@dataclass(frozen=True)
class Interface:
    """What jobs the packed model fits."""

    task: Task
    input_shape: tuple[int, ...]
    input_type: str
    target_shape: tuple[int, ...]
    classes: int


def read_model(path: Path) -> ModelProto:
    """The model with its data, IR and operator set within what is admitted.

    Raises:
        ModelUnsuitable: it cannot be read, or not be brought there.
    """
    try:
        if path.stat().st_size > 2 * MAX_COMPONENT_BYTES:
            raise ModelUnsuitable(f"{path} is larger than {2 * MAX_COMPONENT_BYTES:,} bytes")
        model = onnx.load(path)
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelUnsuitable(f"{path} cannot be read as an ONNX model: {error}") from error
    if model.functions:
        raise ModelUnsuitable("it defines functions; export it with its functions inlined")
    version = _one_version(model)
    if not LOWEST_OPSET <= version <= HIGHEST_OPSET:
        model = _converted(model, HIGHEST_OPSET if version > HIGHEST_OPSET else _USUAL_OPSET)
    model.ir_version = min(max(model.ir_version, 7), HIGHEST_IR)
    _strip(model)
    return model


def _one_version(model: ModelProto) -> int:
    """The version of ONNX's own operators; exporters write it twice at times, or not at all."""
    own = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    version = max((int(entry.version) for entry in own), default=_USUAL_OPSET)
    for entry in own:
        model.opset_import.remove(entry)
    model.opset_import.append(helper.make_opsetid("", version))
    return version


def _converted(model: ModelProto, version: int) -> ModelProto:
    try:
        return version_converter.convert_version(model, version)
    except RuntimeError as error:
        raise ModelUnsuitable(f"its operator set cannot be brought to version {version}: {error}") from error


def _strip(model: ModelProto) -> None:
    """Take off what is only for people, which would count as bytes of the graph."""
    del (
        model.metadata_props[:],
        model.training_info[:],
        model.graph.value_info[:],
        model.graph.metadata_props[:],
    )
    for field in ("doc_string", "domain", "producer_version"):
        model.ClearField(field)
    model.graph.ClearField("doc_string")
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("name")
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
    for tensor in model.graph.initializer:
        tensor.ClearField("doc_string")
        tensor.ClearField("data_location")
        del tensor.external_data[:], tensor.metadata_props[:]


def take_bytes(model: ModelProto) -> None:
    """Let the model, which takes float32 from 0 to 1, take uint8 from 0 to 255: images."""
    given = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in given:
            continue
        value.type.tensor_type.elem_type = TensorProto.UINT8
        for node in model.graph.node:
            node.input[:] = ["scaled_input" if name == value.name else name for name in node.input]
        scale = numpy_helper.from_array(np.asarray(1 / 255, np.float32), "byte_scale")
        model.graph.initializer.append(scale)
        model.graph.node.insert(
            0, helper.make_node("Cast", [value.name], ["cast_input"], to=TensorProto.FLOAT)
        )
        model.graph.node.insert(1, helper.make_node("Mul", ["cast_input", "byte_scale"], ["scaled_input"]))


def renamed_interface(model: ModelProto, task: Task) -> Interface:
    """Name the input and the output as the contract does; the batch becomes symbolic.

    Raises:
        ModelUnsuitable: the model has several inputs, or shapes that it does not tell.
    """
    graph = model.graph
    given = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in given]
    if len(inputs) != 1:
        raise ModelUnsuitable(f"it has {len(inputs)} inputs, one is needed: {[v.name for v in inputs]}")
    source = inputs[0].type.tensor_type
    if source.elem_type not in _INPUT_TYPES:
        raise ModelUnsuitable("its input is neither float32 nor uint8")
    batch = source.shape.dim[0].dim_value if source.shape.dim else 0
    shape = _sizes(inputs[0])
    _free_batch(graph.node, graph.initializer, batch)
    _rename(model, {inputs[0].name: INPUT, graph.output[0].name: OUTPUT})
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, source.elem_type, ["N", *shape]))
    target = _target_shape(model, task)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", *target]))
    classes = target[0] if task is Task.CLASSIFICATION else 0
    kept = () if task is Task.CLASSIFICATION else target
    return Interface(task, shape, _INPUT_TYPES[source.elem_type], kept, classes)


def _sizes(value: ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    sizes = tuple(dim.dim_value for dim in dims[1:])
    if not dims or any(size < 1 for size in sizes):
        raise ModelUnsuitable(f"{value.name} must tell all of its sizes but the first, which is the batch")
    return sizes


def _target_shape(model: ModelProto, task: Task) -> tuple[int, ...]:
    """One example's output, by inference; a regression's [N, 1] becomes [N]."""
    probe = ModelProto()
    probe.CopyFrom(model)
    probe.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    probe.graph.output[0].CopyFrom(ValueInfoProto(name=OUTPUT))
    inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True)
    shape = _sizes(inferred.graph.output[0])
    if task is Task.CLASSIFICATION:
        if len(shape) != 1:
            raise ModelUnsuitable(f"its output has shape [N, {shape}], a classification needs [N, classes]")
        return shape
    if shape != (1,):
        return shape
    _rename(model, {OUTPUT: "column"})
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "values"))
    model.graph.node.append(helper.make_node("Reshape", ["column", "values"], [OUTPUT]))
    return ()


def _free_batch(nodes: Sequence[NodeProto], initializers: Sequence[TensorProto], batch: int) -> None:
    """A model exported for a fixed batch reshapes to it: let that dimension be whatever is left."""
    if not batch:
        return
    targets = {node.input[1] for node in nodes if node.op_type == "Reshape"}
    for tensor in initializers:
        if tensor.name not in targets:
            continue
        shape = numpy_helper.to_array(tensor).copy()
        if shape.size and shape[0] == batch:
            shape[0] = 0 if -1 in shape else -1
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for new in set(names.values()) & taken - names.keys():
        names = {**names, new: f"{new}_inner"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for entry in (*model.graph.initializer, *model.graph.output, *model.graph.input):
        entry.name = names.get(entry.name, entry.name)
