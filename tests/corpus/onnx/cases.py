"""Hostile ONNX models: each case is a function that makes one, and names the code that refuses it.

`python -m tests.corpus.onnx.cases` lists them. Every case starts from `good()`, which is admitted for
`REQUEST`, and changes what it is about.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from chiron.wire.contract import BuildRequest, Envelope, InputType, Task

REQUEST = BuildRequest(
    task=Task.CLASSIFICATION, input_shape=(4,), input_dtype=InputType.FLOAT32, classes=3, max_parameters=1000
)
ENVELOPE = Envelope(max_parameters=1000, max_graph_bytes=4 * 2**20)
THEMES = (
    "encodings",
    "features",
    "operators",
    "tensors",
    "shapes",
    "operands",
    "batches",
    "calculated",
    "memory",
    "initializations",
    "interfaces",
)


@dataclass(frozen=True)
class Case:
    """One hostile model."""

    name: str
    expected: str
    """The code of the refusal."""
    make: Callable[[], bytes]


def hostile(expected: str) -> Callable[[Callable[[], bytes | ModelProto]], Case]:
    """Declare a case: the function makes the model, its docstring says what it tries."""

    def declare(function: Callable[[], bytes | ModelProto]) -> Case:
        def make() -> bytes:
            made = function()
            return made if isinstance(made, bytes) else serialised(made)

        return Case(function.__name__.replace("_", "-"), expected, make)

    return declare


def all_cases() -> Iterator[Case]:
    """Every case of every theme."""
    for theme in THEMES:
        module = import_module(f"tests.corpus.onnx.{theme}")
        yield from (value for value in vars(module).values() if isinstance(value, Case))


def serialised(model: ModelProto) -> bytes:
    """The model's bytes."""
    return bytes(model.SerializeToString())


def good(nodes: Sequence[NodeProto] | None = None, **changes: Any) -> ModelProto:
    """`input` [N, 4] times `weight` [4, 3] is `output` [N, 3]; `nodes` stand instead of this product.

    Changes: `opset`, `ir_version`, `parameters` (name to shape), `constants`, `initial` (nodes that make
    `initial.NAME` for each parameter), `bindings`.
    """
    parameters = changes.get("parameters", {"weight": [4, 3]})
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["input", "weight"], ["output"])],
        "good",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])],
        initializer=changes.get("constants", []),
    )
    graph.initializer.extend(shaped(name, shape) for name, shape in parameters.items())
    opsets = [helper.make_opsetid("", changes.get("opset", 17))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=changes.get("ir_version", 10))
    initial = changes.get("initial") or [drawn(name, shape) for name, shape in parameters.items()]
    training = model.training_info.add()
    training.initialization.CopyFrom(GraphProto(name="initialization", node=initial))
    bindings = changes.get("bindings") or {name: f"initial.{name}" for name in parameters}
    for key, value in bindings.items():
        training.initialization_binding.add(key=key, value=value)
    return model


def shaped(name: str, shape: Sequence[int]) -> TensorProto:
    """A parameter: dims without data."""
    return TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)


def drawn(name: str, shape: Sequence[int]) -> NodeProto:
    """A random initial value."""
    return helper.make_node("RandomNormal", [], [f"initial.{name}"], shape=shape)


if __name__ == "__main__":
    # As a program this module is not the one that the themes import, and neither is its `Case`.
    for case in import_module("tests.corpus.onnx.cases").all_cases():
        print(f"{case.expected:28} {case.name}")
