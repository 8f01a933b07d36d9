"""The graph that a builder draws: `Graph` collects nodes, `Tensor` is a value in it with a known shape."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import onnx
from .initial import Initial
from .onnx import Attribute, Data, ElementType
from .request import Plan, Request


class BuildRefused(Exception):
    """Raise it in `build` where there is no model for a request. Only `chiron builder run` shows the text."""


@dataclass(frozen=True)
class Tensor:
    """A value for every example. Layers take and return it."""

    graph: "Graph"
    name: str
    shape: tuple[int, ...]
    """One example's: the batch dimension comes before it."""
    type: ElementType = ElementType.FLOAT32

    @property
    def elements(self) -> int:
        """Elements of one example."""
        return math.prod(self.shape)

    def __add__(self, other: "Tensor | float") -> "Tensor":
        return self.graph.combine("Add", self, other)

    def __sub__(self, other: "Tensor | float") -> "Tensor":
        return self.graph.combine("Sub", self, other)

    def __mul__(self, other: "Tensor | float") -> "Tensor":
        return self.graph.combine("Mul", self, other)

    def __truediv__(self, other: "Tensor | float") -> "Tensor":
        return self.graph.combine("Div", self, other)


class Graph:
    """An ONNX graph in the making. `graph.input` is where it begins; `graph.plan(output)` ends it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.parameters = 0
        """Elements of all parameters so far; `request.max_parameters` is the most."""
        self._nodes: list[bytes] = []
        self._initializers: list[bytes] = []
        self._initialization: list[bytes] = []
        self._bindings: dict[str, str] = {}
        self._names: set[str] = set()
        self.input = Tensor(
            self, "input", tuple(request.input_shape), ElementType[request.input_type.upper()]
        )
        self._names |= {"input", "output"}

    def name(self, base: str) -> str:
        """A name that is not taken: `base`, or `base_1`, `base_2`, …"""
        name, count = base, 0
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def node(
        self, operator: str, *inputs: "Tensor | str", shape: Sequence[int], **attributes: Attribute
    ) -> Tensor:
        """Any ONNX operator with one float32 output; `shape` is one example's output."""
        return self.typed_node(operator, *inputs, shape=shape, type=ElementType.FLOAT32, **attributes)

    def typed_node(
        self,
        operator: str,
        *inputs: "Tensor | str",
        shape: Sequence[int],
        type: ElementType,  # noqa: A002 - as in the tensor
        **attributes: Attribute,
    ) -> Tensor:
        """Any ONNX operator with one output of the given type."""
        output = self.name(operator.lower())
        names = [value.name if isinstance(value, Tensor) else value for value in inputs]
        self._nodes.append(onnx.node(operator, names, [output], **attributes))
        return Tensor(self, output, tuple(shape), type)

    def constant(self, base: str, data: Data) -> str:
        """A small tensor that is not trained; returns its name."""
        name = self.name(base)
        self._initializers.append(onnx.tensor(name, data))
        return name

    def parameter(
        self,
        name: str,
        shape: Sequence[int],
        initial: Initial,
        *,
        fan_in: int = 1,
        fan_out: int = 1,
    ) -> str:
        """A trained tensor; returns its name. `fan_in` and `fan_out` are what He and Glorot count."""
        if name in self._names:
            raise ValueError(f"there is a {name!r} already")
        self._names.add(name)
        elements = math.prod(shape)
        self.parameters += elements
        if self.parameters > self.request.max_parameters:
            raise BuildRefused(f"more than {self.request.max_parameters} parameters")
        self._initializers.append(onnx.parameter(name, shape, initial.properties()))
        made = initial.nodes(f"initial.{name}", shape, fan_in, fan_out)
        if made:
            self._initialization += made
            self._bindings[name] = f"initial.{name}"
        return name

    def combine(self, operator: str, left: Tensor, right: "Tensor | float") -> Tensor:
        """Add, Sub, Mul or Div of equal shapes, or with a number."""
        if isinstance(right, Tensor):
            if left.shape != right.shape:
                raise ValueError(f"{operator}: {left.shape} and {right.shape} differ")
            return self.node(operator, left, right, shape=left.shape)
        number = self.constant("number", onnx.floats([right], ()))
        return self.node(operator, left, number, shape=left.shape)

    def plan(self, output: Tensor, **recipe: object) -> Plan:
        """End the graph and say how to train it: fields of the recipe (`docs/training.md`) by name.

        Args:
            output: class scores (logits) of shape (classes,), or the values of a regression; it is reshaped
                where it has as many elements as the job asks for.
            recipe: for example `epochs=20, batch_size=64, optimizer={"kind": "adamw"}`.
        """
        expected = self.request.output_shape
        if output.elements != math.prod(expected):
            raise ValueError(f"the output has shape {output.shape}, the job asks for {expected}")
        if output.shape != expected:
            target = self.constant("output_shape", onnx.int64s([-1, *expected]))
            self._nodes.append(onnx.node("Reshape", [output.name, target], ["output"]))
        else:
            self._nodes.append(onnx.node("Identity", [output.name], ["output"]))
        loss = {"kind": "cross-entropy" if self.request.task == "classification" else "mse"}
        described: Mapping[str, object] = {"version": 1, "loss": loss, **recipe}
        return Plan(self._model(), json.dumps(described))

    def _model(self) -> bytes:
        request = self.request
        forward = onnx.graph(
            "graph",
            self._nodes,
            self._initializers,
            [onnx.value("input", self.input.type, ["N", *request.input_shape])],
            [onnx.value("output", ElementType.FLOAT32, ["N", *request.output_shape])],
        )
        initialization = onnx.graph(
            "initialization",
            self._initialization,
            [],
            [],
            [onnx.value(name, ElementType.FLOAT32, []) for name in self._bindings.values()],
        )
        return onnx.model(forward, initialization, self._bindings)
