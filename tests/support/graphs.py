"""Small graphs and recipes as a builder answers them, for the digits ([8, 8] or [64] inputs, 10 classes)."""

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RECIPE = json.dumps(
    {"optimizer": {"kind": "adamw", "learning_rate": 0.01}, "batch_size": 32, "epochs": 20}
).encode()


def linear(
    input_shape: tuple[int, ...], input_type: int, *, classes: int = 10, width: int | None = None
) -> bytes:
    """A linear classifier; `width` states another number of inputs than the truth."""
    features = width or prod(input_shape)
    nodes = [
        helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["row"], axis=1),
        helper.make_node("Gemm", ["row", "weight", "bias"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", input_type, ["N", *input_shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", classes])],
    )
    graph.initializer.extend([_shaped("bias", [classes]), _shaped("weight", [features, classes])])
    return finished(graph, {"weight": [features, classes], "bias": [classes]})


def finished(graph: onnx.GraphProto, parameters: dict[str, list[int]]) -> bytes:
    """The model of a graph whose parameters begin as small random numbers."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    nodes, outputs, bindings = [], [], []
    for name, shape in parameters.items():
        nodes.append(
            helper.make_node("RandomNormal", [], [f"{name}_initial"], shape=shape, scale=0.01, dtype=1)
        )
        outputs.append(helper.make_tensor_value_info(f"{name}_initial", TensorProto.FLOAT, shape))
        bindings.append(onnx.StringStringEntryProto(key=name, value=f"{name}_initial"))
    training = model.training_info.add()
    training.initialization.CopyFrom(helper.make_graph(nodes, "initialization", [], outputs))
    training.initialization_binding.extend(bindings)
    return bytes(model.SerializeToString())


def graph_with_node(operator: str, inputs: Sequence[str], **attributes: Any) -> bytes:
    """A graph of `x`, which is `input` [N, 4] times a parameter, this node's `y`, and its sum."""
    nodes = [
        helper.make_node("Mul", ["input", "p"], ["x"]),
        helper.make_node(operator, inputs, ["y"], **attributes),
        helper.make_node("ReduceSum", ["y", "axes"], ["output"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.array([1]), "axes")],
    )
    graph.initializer.append(TensorProto(name="p", data_type=TensorProto.FLOAT, dims=[1]))
    return finished(graph, {"p": [1]})


def foreign_operator() -> bytes:
    """A graph with an operator of nobody's domain."""
    node = helper.make_node("Exfiltrate", ["input"], ["output"], domain="evil.example")
    graph = helper.make_graph(
        [node],
        "foreign",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil.example", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def _shaped(name: str, dims: list[int]) -> onnx.TensorProto:
    """A parameter: a shape without values."""
    return onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
