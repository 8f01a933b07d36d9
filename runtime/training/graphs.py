"""From an admitted graph to the models that run: training, evaluation, inference.

Names of our own begin with `OWN`, which no admitted name does (they are ASCII).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from chiron.runtime.training.allocation import predicted_rows
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.graph import AdmittedGraph, Parameter
from chiron.wasm_sandbox.recipe import BinaryCrossEntropy, Layout, Recipe
from chiron.wire.contract import Task

OWN = "·"
INPUT, OUTPUT = "input", "output"
ROWS_AT_ONCE = "chiron.rows-at-once"
"""Metadata of an inference model: how many rows fit into memory."""
_IR_VERSION = 9
_OLDEST_OPSET = 14
"""The opset that gave BatchNormalization its training mode; otherwise 13 means the same for what we admit."""


def forward_model(graph: AdmittedGraph) -> ModelProto:
    """A copy of the forward model whose parameters are inputs: nothing of their data is copied."""
    model = ModelProto()
    model.CopyFrom(graph.forward)
    _modernise(model)
    model.graph.input.extend(value_info(p) for p in graph.parameters)
    return model


def inference_model(
    graph: AdmittedGraph, values: dict[str, NDArray[np.float32]], recipe: Recipe, task: Task
) -> ModelProto:
    """The model that predicts: from `input` as the client sends it to `output`.

    The outputs are class scores (they sum to one unless trained by binary cross-entropy), or values.
    """
    model = graph.with_values(values)
    model.metadata_props.add(key=ROWS_AT_ONCE, value=str(predicted_rows(graph)))
    _modernise(model)
    preprocess(model.graph, recipe)
    activation = _activation(recipe, task)
    if activation is not None:
        attributes: dict[str, Any] = {"axis": 1} if activation == "Softmax" else {}
        _rename_output(model.graph, OUTPUT, OWN + "logits")
        model.graph.node.append(helper.make_node(activation, [OWN + "logits"], [OUTPUT], **attributes))
    return model


def value_info(parameter: Parameter, suffix: str = "") -> ValueInfoProto:
    """The declaration of a parameter, or of what belongs to it and has its shape."""
    return helper.make_tensor_value_info(parameter.name + suffix, TensorProto.FLOAT, parameter.shape)


def constant(graph: GraphProto, name: str, value: NDArray[np.float32]) -> str:
    """Add a constant under a name of our own; the name."""
    graph.initializer.append(numpy_helper.from_array(value, OWN + name))
    return OWN + name


def preprocess(graph: GraphProto, recipe: Recipe) -> None:
    """Put `fill_missing` and `normalise` between the input and whatever uses it.

    Raises:
        TrainingFailed: preprocessing-unsupported, for a uint8 input that is used without a cast.
    """
    if recipe.fill_missing is None and recipe.normalise is None:
        return
    users = [node for node in graph.node if INPUT in node.input]
    declared = graph.input[0].type.tensor_type
    nodes: list[NodeProto] = []
    current = INPUT
    if declared.elem_type != TensorProto.FLOAT:
        if any(node.op_type != "Cast" for node in users):
            raise TrainingFailed(Reason.PREPROCESSING_UNSUPPORTED)
        current = _add(nodes, "Cast", [current], to=TensorProto.FLOAT)
    if recipe.fill_missing is not None:
        fill = constant(graph, "fill", np.asarray(recipe.fill_missing, np.float32))
        current = _add(nodes, "Where", [_add(nodes, "IsNaN", [current]), fill, current])
    if recipe.normalise is not None:
        chosen, rank = recipe.normalise, len(declared.shape.dim) - 1
        mean, std = (_per_channel(values, rank, chosen.layout) for values in (chosen.mean, chosen.std))
        current = _add(nodes, "Sub", [current, constant(graph, "mean", mean)])
        current = _add(nodes, "Mul", [current, constant(graph, "inverse_std", np.float32(1) / std)])
    for node in users:
        node.input[:] = [current if name == INPUT else name for name in node.input]
    _prepend(graph, nodes)


def _per_channel(values: Sequence[float], rank: int, layout: Layout) -> NDArray[np.float32]:
    array = np.asarray(values, np.float32)
    if rank == 3 and layout is Layout.CHANNELS_FIRST:
        return array.reshape(-1, 1, 1)
    return array


def _add(nodes: list[NodeProto], op_type: str, inputs: Iterable[str], **attributes: Any) -> str:
    output = f"{OWN}pre{len(nodes)}"
    nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
    return output


def _prepend(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    rest = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _rename_output(graph: GraphProto, name: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if value == name else value for value in node.input]
        node.output[:] = [new if value == name else value for value in node.output]


def _activation(recipe: Recipe, task: Task) -> str | None:
    if isinstance(recipe.loss, BinaryCrossEntropy):
        return "Sigmoid"
    return "Softmax" if task is Task.CLASSIFICATION else None


def _modernise(model: ModelProto) -> None:
    model.ir_version = _IR_VERSION
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, _OLDEST_OPSET)
    del model.training_info[:]
