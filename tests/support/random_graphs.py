"""Graphs at random, of the operators and attribute ranges that admission allows: what native code survives.

    python -m tests.support.random_graphs FIRST COUNT

admits, runs and differentiates so many, seed by seed, and prints how many were admitted. A crash ends the
process; the last seed is on stderr. Whatever ends it becomes a case of the corpus, and a rule.
"""

import sys
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.admission.operators import OPERATORS, Attribute
from chiron.wasm_sandbox.errors import GraphRefused
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import MeanSquaredError, Recipe
from chiron.wire.contract import BuildRequest, Envelope, InputType, Task

SHAPES = ((4,), (6,), (3, 4), (1, 4, 4), (2, 3, 5), (2, 4, 4), (1, 7, 7), (2, 2, 2, 2))
TYPES = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL)
INTEGERS = (0, 1, 1, 1, -1, 2, 2, 3, 4, 5, 7, -2, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
REALS = (0.0, 1.0, -1.0, 0.5, 1e30, -1e30)
PARAMETERS = 10_000


class RandomGraph:
    """One graph: `x` = `input` · a parameter, then up to three operators, then their sum, [N]."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.shape = self.random.choice(SHAPES)
        self.opset = self.random.randint(13, 21)
        self.nodes: list[NodeProto] = []
        self.constants = [numpy_helper.from_array(np.array([1], np.int64), "columns")]
        self.parameters: dict[str, Sequence[int]] = {}
        self._node("Mul", ["input", self._parameter([1] * len(self.shape))], "x")
        self.values = ["x", "x", "input"]
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self._step()
        self._node("Cast", [self.values[-1]], "real", to=TensorProto.FLOAT)
        for value in ("real", "x"):
            self._node("Flatten", [value], f"{value}.row", axis=1)
            self._node("ReduceSum", [f"{value}.row", "columns"], f"{value}.sum", keepdims=0)
        self._node("Add", ["real.sum", "x.sum"], "output")

    def _node(self, operator: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def _step(self) -> None:
        name = self.random.choice(sorted(OPERATORS))
        operator = OPERATORS[name]
        try:
            schema = onnx.defs.get_schema(name, max_inclusive_version=self.opset)
        except onnx.defs.SchemaError:
            return
        most = min(schema.max_input, operator.most_inputs or 5, 5)
        inputs = [self._operand(name, n) for n in range(self.random.randint(schema.min_input, most))]
        outputs = [
            f"y{len(self.nodes)}.{n}" for n in range(self.random.choice((1, 2)) if name == "Split" else 1)
        ]
        attributes = {
            key: self._attribute(key, allowed)
            for key, allowed in operator.attributes.items()
            if key in schema.attributes and (schema.attributes[key].required or self.random.random() < 0.5)
        }
        if "num_outputs" in attributes:
            attributes["num_outputs"] = len(outputs)
        self._node(name, inputs, *outputs, **attributes)
        if len(outputs) > 1:
            self._node("Concat", outputs, f"{outputs[0]}.both", axis=1)
            outputs = [f"{outputs[0]}.both"]
        self.values += outputs * 3

    def _operand(self, operator: str, position: int) -> str:
        chance = self.random.random()
        if position == 0 or chance < 0.2:
            if chance < 0.8:
                return self.random.choice(self.values)
            name = f"a{len(self.nodes)}"
            self._node("Cast", ["input"], name, to=self.random.choice(TYPES))
            return name
        if chance < 0.55:
            self.constants.append(self._constant(f"c{len(self.constants)}"))
            return str(self.constants[-1].name)
        sizes = {"Conv": [2, self.shape[0], 2, 3], "BatchNormalization": [self.shape[0]]}
        last = self.shape[-1]
        usual = self.random.choice(([last], [1], [last, 3], [4, 4], list(self.shape), [1, *self.shape]))
        return self._parameter(sizes.get(operator, usual))

    def _parameter(self, shape: Sequence[int]) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = shape
        return name

    def _constant(self, name: str) -> TensorProto:
        shape = [self.random.choice((1, 1, 2, 3, 4)) for _ in range(self.random.choice((0, 1, 1, 1, 2, 3)))]
        count = int(np.prod(shape))
        if self.random.random() < 0.4:
            reals = [self.random.choice(REALS) for _ in range(count)]
            return numpy_helper.from_array(np.array(reals, np.float32).reshape(shape), name)
        whole = [self.random.choice(INTEGERS) for _ in range(count)]
        return numpy_helper.from_array(np.array(whole, np.int64).reshape(shape), name)

    def _attribute(self, name: str, allowed: Attribute) -> Any:
        if name == "to":
            return self.random.choice(TYPES)
        if allowed.kind == AttributeProto.STRING:
            return self.random.choice(sorted(allowed.words))
        if allowed.kind == AttributeProto.TENSOR:
            return self._constant("")
        if allowed.kind in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            real = self.random.choice((allowed.low, allowed.high, 0.5, 1.0, 1e-5))
            return real if allowed.kind == AttributeProto.FLOAT else [real, 1.0]
        low, high = int(allowed.low), int(allowed.high)
        numbers = [max(low, min(high, self.random.choice((*INTEGERS, low, high)))) for _ in range(8)]
        return (
            numbers[0] if allowed.kind == AttributeProto.INT else numbers[: self.random.choice((1, 2, 2, 4))]
        )

    def model(self) -> ModelProto:
        """The model, with an initialization for every parameter."""
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *self.shape])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N"])],
            initializer=self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        training = made.training_info.add()
        training.initialization.name = "initialization"
        for name, shape in self.parameters.items():
            if name in used:
                made.graph.initializer.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape))
                node = helper.make_node("RandomNormal", [], [f"i.{name}"], shape=shape)
                training.initialization.node.append(node)
                training.initialization_binding.add(key=name, value=f"i.{name}")
        return made


def attempt(seed: int) -> bool:
    """Admit, run and differentiate one graph; whether it was admitted. Errors are as good as answers."""
    drawn = RandomGraph(seed)
    request = BuildRequest(
        task=Task.REGRESSION,
        input_shape=drawn.shape,
        input_dtype=InputType.FLOAT32,
        max_parameters=PARAMETERS,
    )
    try:
        graph = admit(drawn.model().SerializeToString(), request, Envelope(max_parameters=PARAMETERS))
    except GraphRefused:
        return False
    values = np.random.default_rng(seed)
    parameters = {p.name: values.normal(size=p.shape).astype(np.float32) for p in graph.parameters}
    for examples in (1, 5):
        x = (values.normal(size=(examples, *drawn.shape)) * drawn.random.choice((1, 1e30))).astype(np.float32)
        x.reshape(-1)[0] = drawn.random.choice((0.5, np.nan, np.inf))
        answer = _run(graph.with_values(parameters), {"input": x})
        assert answer is None or answer.shape == (examples,), "it does as its shapes say"
        _differentiate(graph, request, {"input": x, **parameters})
    return True


def _run(model: ModelProto, feed: dict[str, NDArray[Any]]) -> NDArray[Any] | None:
    options = SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for wanted in session.get_inputs():
            if wanted.name not in feed:
                shape = [size if isinstance(size, int) else len(feed["input"]) for size in wanted.shape]
                feed[wanted.name] = np.ones(shape, np.float32)
        return np.asarray(session.run(None, feed)[0])
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise


def _differentiate(graph: AdmittedGraph, request: BuildRequest, feed: dict[str, NDArray[Any]]) -> None:
    try:
        built = training_model(graph, Recipe(loss=MeanSquaredError()), request)
    except TrainingFailed:
        return
    _run(ModelProto.FromString(built.onnx), feed)


if __name__ == "__main__":
    first, count = int(sys.argv[1]), int(sys.argv[2])
    admitted = 0
    for number in range(first, first + count):
        print(number, file=sys.stderr, flush=True)
        admitted += attempt(number)
    print(admitted)
