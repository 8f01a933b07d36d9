"""One use of every operator that a graph may train through, each as a graph of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

COLUMNS = 4


@dataclass(frozen=True)
class Use:
    """One use of an operator: `x` is a trained value; the operator's output is `y`."""

    inputs: Sequence[str] = ("x",)
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shape: tuple[int, ...] = (COLUMNS,)
    """One example's `x`."""
    outputs: Sequence[str] = ("y",)
    then: Sequence[NodeProto] = ()
    """Nodes that make y of several outputs."""
    opset: int = 17


_MAPS = (1, 2, 2)
_INDEX = np.array([0, 2], np.int64)
_ONE = np.array([1], np.int64)
_BOTH = helper.make_node("Mul", ["a", "b"], ["y"])
USES: dict[str, Use] = {
    **{
        name: Use()
        for name in ("Abs", "Cos", "Erf", "Exp", "Identity", "Neg", "Relu", "Sigmoid", "Sin", "Tanh")
    },
    **{name: Use(inputs=("positive",)) for name in ("Log", "Reciprocal", "Sqrt")},
    **{name: Use(inputs=("x", "p"), parameters={"p": (COLUMNS,)}) for name in ("Add", "Mul", "Sub")},
    "Div": Use(inputs=("x", "positive")),
    "Max": Use(inputs=("x", "p"), parameters={"p": (COLUMNS,)}),
    "Min": Use(inputs=("x", "p"), parameters={"p": (COLUMNS,)}),
    "Pow": Use(inputs=("positive", "c"), constants={"c": np.float32(1.5)}),
    "MatMul": Use(inputs=("x", "p"), parameters={"p": (COLUMNS, 5)}),
    "Gemm": Use(inputs=("x", "p", "q"), parameters={"p": (COLUMNS, 5), "q": (5,)}),
    "Expand": Use(inputs=("x", "c"), constants={"c": np.array([1, COLUMNS], np.int64)}),
    "Where": Use(inputs=("mask", "x", "p"), parameters={"p": (COLUMNS,)}),
    "GlobalAveragePool": Use(shape=_MAPS),
    "MaxPool": Use(shape=_MAPS, attributes={"kernel_shape": [2, 2]}),
    "Conv": Use(inputs=("x", "p"), shape=_MAPS, parameters={"p": (2, 1, 2, 2)}),
    "Cast": Use(attributes={"to": TensorProto.FLOAT}),
    "Clip": Use(inputs=("x", "c", "d"), constants={"c": np.float32(-1), "d": np.float32(1)}),
    "Concat": Use(inputs=("x", "x"), attributes={"axis": 1}),
    "Flatten": Use(shape=_MAPS),
    "Gather": Use(inputs=("x", "c"), attributes={"axis": 1}, constants={"c": _INDEX}),
    "LayerNormalization": Use(inputs=("x", "p", "q"), parameters={"p": (COLUMNS,), "q": (COLUMNS,)}),
    "LeakyRelu": Use(attributes={"alpha": 0.1}),
    "LogSoftmax": Use(attributes={"axis": 1}),
    "Softmax": Use(attributes={"axis": 1}),
    "ReduceMean": Use(attributes={"axes": [1], "keepdims": 1}),
    "ReduceSum": Use(inputs=("x", "c"), attributes={"keepdims": 1}, constants={"c": _ONE}),
    "Reshape": Use(inputs=("x", "c"), constants={"c": np.array([-1, 2, 2], np.int64)}),
    "Slice": Use(
        inputs=("x", "c", "d", "e"),
        constants={"c": np.array([1], np.int64), "d": np.array([2**63 - 1], np.int64), "e": _ONE},
    ),
    "Split": Use(
        inputs=("x", "c"),
        attributes={"axis": 1},
        constants={"c": np.array([2, 2], np.int64)},
        outputs=("a", "b"),
        then=[_BOTH],
    ),
    "Squeeze": Use(inputs=("x", "c"), shape=_MAPS, constants={"c": _ONE}),
    "Transpose": Use(shape=_MAPS, attributes={"perm": [0, 2, 3, 1]}),
    "Unsqueeze": Use(inputs=("x", "c"), constants={"c": _ONE}),
}
NEWER = {
    "ReduceMean": Use(inputs=("x", "c"), attributes={"keepdims": 1}, constants={"c": _ONE}, opset=18),
    "Split": Use(attributes={"axis": 1, "num_outputs": 2}, outputs=("a", "b"), then=[_BOTH], opset=18),
}


def model_of(operator: str, use: Use) -> ModelProto:
    """`input` · `w` is x, the operator makes y of it, and the sum of y is the output, [N]."""
    one = (1,) * len(use.shape)
    parameters = {"w": use.shape, **use.parameters}
    nodes = [
        helper.make_node("Mul", ["input", "w"], ["x"]),
        helper.make_node("Abs", ["x"], ["absolute"]),
        helper.make_node("Add", ["absolute", "half"], ["positive"]),
        helper.make_node("Greater", ["input", "zero"], ["mask"]),
        helper.make_node(operator, list(use.inputs), list(use.outputs), **use.attributes),
        *use.then,
        helper.make_node("Flatten", ["y"], ["flat"]),
        helper.make_node("ReduceSum", ["flat", "columns"], ["output"], keepdims=0),
    ]
    constants = {
        "half": np.full(one, 0.5, np.float32),
        "zero": np.zeros(one, np.float32),
        "columns": np.array([1], np.int64),
        **use.constants,
    }
    graph = helper.make_graph(
        nodes,
        "use",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *use.shape])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N"])],
        initializer=[numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", use.opset)], ir_version=10)
    training = model.training_info.add()
    for name, shape in parameters.items():
        graph_of = training.initialization
        model.graph.initializer.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape))
        graph_of.node.append(helper.make_node("RandomNormal", [], [f"i.{name}"], shape=shape))
        training.initialization_binding.add(key=name, value=f"i.{name}")
    training.initialization.name = "initialization"
    return model
