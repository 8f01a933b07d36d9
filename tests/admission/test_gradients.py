"""The operator table's promise: onnxruntime-training differentiates every operator of the trained part."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.capi._pybind_state import GradientGraphBuilder, get_optimized_model

from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.admission.operators import OPERATORS, Part
from chiron.wire.contract import BuildRequest, Envelope, InputType, Task

ROWS, COLUMNS = 3, 4


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
_APART = {"BatchNormalization", "Dropout"}
"""The runtime puts them into training mode; their gradients are tested with the learner."""


def test_every_operator_of_the_trained_part_is_used() -> None:
    trained = {name for name, operator in OPERATORS.items() if operator.part is Part.TRAINED}
    assert trained == USES.keys() | _APART


@pytest.mark.parametrize(
    ("operator", "use"), [*USES.items(), *NEWER.items()], ids=[*USES, *(f"{name}-18" for name in NEWER)]
)
def test_gradient_of_an_admitted_use_is_what_differences_say(operator: str, use: Use) -> None:
    # The same graph that is admitted (opset 21 too, below) is differentiated and compared numerically.
    model = _model(operator, use)
    request = BuildRequest(
        task=Task.REGRESSION, input_shape=use.shape, input_dtype=InputType.FLOAT32, max_parameters=100
    )
    admitted = admit(model.SerializeToString(), request, Envelope(max_parameters=100))
    random = np.random.default_rng(7)
    values = {p.name: _away_from_zero(random, p.shape) for p in admitted.parameters}
    x = _away_from_zero(random, (ROWS, *use.shape))
    forward = admitted.with_values(values)
    run, gradients = _differentiated(forward, list(values))
    loss, *found = run({"input": x, **values})
    assert np.isfinite(loss).all()
    for name, gradient in zip(gradients, found, strict=True):
        direction = random.normal(size=values[name].shape).astype(np.float32)
        step = np.float32(1e-2)
        above = run({"input": x, **values, name: values[name] + step * direction})[0]
        below = run({"input": x, **values, name: values[name] - step * direction})[0]
        expected = (float(above) - float(below)) / (2 * float(step))
        told = float(np.sum(gradient * direction))
        assert told == pytest.approx(expected, rel=0.05, abs=0.05), name


def _away_from_zero(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Differences must not step over the corner of an absolute value."""
    drawn = random.normal(size=shape).astype(np.float32)
    return (drawn + 0.5 * np.sign(drawn)).astype(np.float32)


def _model(operator: str, use: Use) -> ModelProto:
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


def _differentiated(forward: ModelProto, parameters: list[str]) -> tuple[Any, list[str]]:
    """A function from feeds to loss and gradients, and the gradients' parameters in order."""
    forward.ir_version = 9
    forward.graph.output[0].name = "output"
    forward.graph.node.append(helper.make_node("ReduceSum", ["output"], ["loss"], keepdims=0))
    del forward.graph.output[:]
    forward.graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    for tensor in [t for t in forward.graph.initializer if t.name in parameters]:
        forward.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        forward.graph.initializer.remove(tensor)
    options = SessionOptions()
    options.log_severity_level = 3
    optimized = get_optimized_model(forward.SerializeToString(), set(parameters), options)
    builder = GradientGraphBuilder(optimized, {"loss"}, set(parameters), "loss", options)
    builder.build()
    gradient = ModelProto.FromString(builder.get_model())
    gradient.ir_version = 9
    names = [name for name in parameters if f"{name}_grad" in {o.name for o in gradient.graph.output}]
    assert names == parameters
    session = InferenceSession(gradient.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(feeds: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        inputs = {value.name for value in session.get_inputs()}
        fed = {name: value for name, value in feeds.items() if name in inputs}
        for value in session.get_inputs():
            fed.setdefault(value.name, np.ones([], np.float32))
        return list(session.run(["loss", *(f"{name}_grad" for name in parameters)], fed))

    return run, names
