"""Forms without branches, tables and addresses that data decide, for `oblivious: strict`.

What is slow about them is the price; docs/graph-contract.md has the table, and tests/oblivious traces what is
left. The passes over the forward graph come before it is differentiated: their gradients are their own.
"""

from itertools import product

import numpy as np
from onnx import NodeProto, TensorProto, helper

from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.runtime.training.graphs import OWN
from chiron.runtime.training.rewrites.editing import Rewriting
from chiron.runtime.training.rewrites.indices import secret_values
from chiron.runtime.training.rewrites.pooling import is_halving
from chiron.wasm_sandbox.admission.addresses import POWERS

_BY_VALUE = frozenset({"Cos", "Log", "LogSoftmax", "MaxPoolGrad", "Min", "OneHot", "Pow", "Sin", "Where"})
"""Operators whose kernels look something up, write or branch far away by what they are given."""
_INDEXED = {"Gather": 1, "GatherGrad": 1, "ScatterND": 1}
"""Operators that go where one of their inputs says."""
_ROOT, _IDENTITY, _CUBE = 0.5, 1.0, 3.0
_AXES_AS_INPUT = 18
"""The opset from which ReduceMax has its axes in an input."""
_LOWEST = float(np.finfo(np.float32).min)
_DOUBLINGS = 24
"""Sums of up to so many doublings have a logarithm here: 2²⁴ classes."""
_TERMS = 8
"""Of the series of a logarithm between 1 and 2: enough for float32."""


def nothing_by_address(work: Rewriting) -> None:
    """Leave the graph as it is, or refuse it.

    Raises:
        TrainingFailed: addresses-depend-on-data.
    """
    secret = secret_values(work)
    for node in work.nodes:
        place = _INDEXED.get(node.op_type)
        if node.op_type in _BY_VALUE or (place is not None and node.input[place] in secret):
            raise TrainingFailed(Reason.ADDRESSES)
        if node.op_type == "MaxPool" and len(node.output) > 1:
            raise TrainingFailed(Reason.ADDRESSES)


def pools_by_slices(work: Rewriting) -> None:
    """MaxPool → the largest of the shifted images, pair by pair. 2 × 2 squares have a form of their own."""

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "MaxPool":
            return None
        shape = work.shapes.get(node.input[0], ())
        if is_halving(node, shape):
            return None
        output = work.shapes.get(node.output[0], ())
        if len(shape) < 3 or not all(shape[2:]) or len(output) != len(shape) or not all(output[2:]):
            raise TrainingFailed(Reason.ADDRESSES)
        return _largest(work, node, _Window.of(node, shape[2:], output[2:]))

    work.replace(change)


class _Window:
    """A pool's window over its spatial dimensions."""

    def __init__(
        self, kernel: list[int], strides: list[int], dilations: list[int], before: list[int], after: list[int]
    ) -> None:
        self.kernel, self.strides, self.dilations = kernel, strides, dilations
        self.before, self.after = before, after

    @classmethod
    def of(cls, node: NodeProto, image: tuple[int, ...], output: tuple[int, ...]) -> "_Window":
        has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        rank, kernel = len(image), list(has["kernel_shape"])
        strides = list(has.get("strides", [1] * rank))
        dilations = list(has.get("dilations", [1] * rank))
        reach = [
            (out - 1) * stride + (k - 1) * dilation + 1
            for out, stride, k, dilation in zip(output, strides, kernel, dilations, strict=True)
        ]
        missing = [max(0, needed - size) for needed, size in zip(reach, image, strict=True)]
        how = has.get("auto_pad", b"NOTSET")
        if how == b"SAME_UPPER":
            before = [n // 2 for n in missing]
        elif how == b"SAME_LOWER":
            before = [n - n // 2 for n in missing]
        else:
            before = list(has.get("pads", [0] * rank * 2))[:rank]
        after = [max(0, n - b) for n, b in zip(missing, before, strict=True)]
        return cls(kernel, strides, dilations, before, after)


def _largest(work: Rewriting, node: NodeProto, window: _Window) -> list[NodeProto]:
    nodes: list[NodeProto] = []
    rank = len(window.kernel)
    image, largest = node.input[0], ""
    if any(window.before) or any(window.after):
        pads = [0, 0, *window.before, 0, 0, *window.after]
        image = work.step(
            nodes, "Pad", image, work.constant(pads, np.int64), work.constant(_LOWEST, np.float32)
        )
    output = work.shapes[node.output[0]][2:]
    axes, steps = work.constant(range(2, rank + 2), np.int64), work.constant(window.strides, np.int64)
    for place in product(*map(range, window.kernel)):
        starts = [at * dilation for at, dilation in zip(place, window.dilations, strict=True)]
        ends = [
            start + (out - 1) * stride + 1
            for start, out, stride in zip(starts, output, window.strides, strict=True)
        ]
        shifted = work.step(
            nodes,
            "Slice",
            image,
            work.constant(starts, np.int64),
            work.constant(ends, np.int64),
            axes,
            steps,
        )
        largest = work.step(nodes, "Max", largest, shifted) if largest else shifted
    nodes.append(helper.make_node("Identity", [largest], node.output))
    return nodes


def maxima_by_comparison(work: Rewriting) -> None:
    """Max of floats → Where, pair by pair. The engine's may read one of a pair only if it is larger.

    Of any graph that is run, and before `choices_as_products`.
    """

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Max" or work.types.get(node.output[0], TensorProto.FLOAT) != TensorProto.FLOAT:
            return None
        nodes: list[NodeProto] = []
        largest, *others = node.input
        for other in others:
            larger = work.step(nodes, "GreaterOrEqual", largest, other)
            largest = work.step(nodes, "Where", larger, largest, other)
        return [*nodes, helper.make_node("Identity", [largest], node.output)]

    work.replace(change)


def choices_as_products(work: Rewriting) -> None:
    """Where → both values, times the condition and times its opposite. The engine's reads the chosen one.

    Numbers that are not finite are held to float32's range first, and NaN to 0: times 0 they would be NaN.
    Of any graph that is run, since gradients choose too.
    """

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Where":
            return None
        element = work.types.get(node.output[0]) or work.types.get(node.input[1]) or TensorProto.FLOAT
        if element not in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64):
            raise TrainingFailed(Reason.ADDRESSES)
        nodes: list[NodeProto] = []
        condition, *values = node.input
        if element == TensorProto.FLOAT:
            values = [_finite(work, nodes, value) for value in values]
        there = work.step(nodes, "Cast", condition, to=element)
        other = work.step(nodes, "Cast", work.step(nodes, "Not", condition), to=element)
        chosen = [work.step(nodes, "Mul", *pair) for pair in zip((there, other), values, strict=True)]
        return [*nodes, helper.make_node("Add", chosen, node.output)]

    work.replace(change)


def _finite(work: Rewriting, nodes: list[NodeProto], value: str) -> str:
    """The value within float32's range; NaN as 0, since ThresholdedRelu, other than Relu, answers 0 to it."""
    largest = work.constant(-_LOWEST, np.float32)
    above = work.step(nodes, "ThresholdedRelu", value, alpha=0.0)
    below = work.step(nodes, "ThresholdedRelu", work.step(nodes, "Neg", value), alpha=0.0)
    held = [work.step(nodes, "Clip", half, work.constant(0, np.float32), largest) for half in (above, below)]
    return work.step(nodes, "Sub", *held)


def powers_as_products(work: Rewriting) -> None:
    """Pow by 0.5, 1, 2 or 3 → a root or products. libm's pow looks logarithms up in a table."""

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Pow":
            return None
        x, exponent = node.input[0], work.values.get(node.input[1])
        number = float(exponent.reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None
        if work.types[x] != TensorProto.FLOAT or number not in POWERS:
            raise TrainingFailed(Reason.ADDRESSES)
        if number in (_ROOT, _IDENTITY):
            return [helper.make_node("Sqrt" if number == _ROOT else "Identity", [x], node.output)]
        nodes: list[NodeProto] = []
        first = work.step(nodes, "Mul", x, x) if number == _CUBE else x
        return [*nodes, helper.make_node("Mul", [first, x], node.output)]

    work.replace(change)


def minima_as_maxima(work: Rewriting) -> None:
    """Min of floats → Max of the opposites. The engine's Min branches at a NaN."""

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Min" or work.types[node.input[0]] != TensorProto.FLOAT:
            return None
        nodes: list[NodeProto] = []
        largest = work.step(nodes, "Max", *[work.step(nodes, "Neg", name) for name in node.input])
        return [*nodes, helper.make_node("Neg", [largest], node.output)]

    work.replace(change)


def logarithms_by_series(work: Rewriting) -> None:
    """LogSoftmax and the losses' own Log → halvings until between 1 and 2, then a series.

    libm's logarithm looks values up in a table. What these two take the logarithm of is at least 1.
    """

    def change(node: NodeProto) -> list[NodeProto] | None:
        nodes: list[NodeProto] = []
        if node.op_type == "Log" and node.output[0].startswith(OWN):
            return _logarithm(work, node.input[0], node.output[0])
        if node.op_type != "LogSoftmax":
            return None
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        x, along = node.input[0], work.constant([axis], np.int64)
        if work.opset >= _AXES_AS_INPUT:
            highest = work.step(nodes, "ReduceMax", x, along, keepdims=1)
        else:
            highest = work.step(nodes, "ReduceMax", x, axes=[axis], keepdims=1)
        shifted = work.step(nodes, "Sub", x, highest)
        total = work.step(nodes, "ReduceSum", work.step(nodes, "Exp", shifted), along, keepdims=1)
        logarithm = work.name()
        nodes += _logarithm(work, total, logarithm)
        return [*nodes, helper.make_node("Sub", [shifted, logarithm], node.output)]

    work.replace(change)


def log_softmax_gradients_by_exponents(work: Rewriting) -> None:
    """LogSoftmaxGrad(dY, Y) → dY - exp(Y)·Σ dY. The engine's takes some exponents from libm's table."""

    def change(node: NodeProto) -> list[NodeProto] | None:
        if not node.op_type.startswith("LogSoftmaxGrad"):
            return None
        gradient, output = node.input
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        nodes: list[NodeProto] = []
        total = work.step(nodes, "ReduceSum", gradient, work.constant([axis], np.int64), keepdims=1)
        back = work.step(nodes, "Mul", work.step(nodes, "Exp", output), total)
        return [*nodes, helper.make_node("Sub", [gradient, back], node.output)]

    work.replace(change)


def _logarithm(work: Rewriting, value: str, output: str) -> list[NodeProto]:
    """log of a value ≥ 1: k·log 2 + 2·artanh((m - 1) / (m + 1)), with m = value / 2ᵏ between 1 and 2."""
    nodes: list[NodeProto] = []
    last, one = work.constant([-1], np.int64), work.constant(1, np.float32)
    powers = work.constant(2.0 ** np.arange(1, _DOUBLINGS + 1), np.float32)
    column = work.step(nodes, "Unsqueeze", value, last)
    reached = work.step(
        nodes, "Cast", work.step(nodes, "GreaterOrEqual", column, powers), to=TensorProto.FLOAT
    )
    logarithm = work.step(
        nodes,
        "Mul",
        work.step(nodes, "ReduceSum", reached, last, keepdims=0),
        work.constant(np.log(2), np.float32),
    )
    m = work.step(nodes, "Mul", value, work.step(nodes, "Exp", work.step(nodes, "Neg", logarithm)))
    u = work.step(nodes, "Div", work.step(nodes, "Sub", m, one), work.step(nodes, "Add", m, one))
    square = work.step(nodes, "Mul", u, u)
    series = work.constant(1 / (2 * _TERMS + 1), np.float32)
    for n in range(_TERMS - 1, -1, -1):
        series = work.step(
            nodes,
            "Add",
            work.step(nodes, "Mul", series, square),
            work.constant(1 / (2 * n + 1), np.float32),
        )
    twice = work.step(nodes, "Mul", work.step(nodes, "Mul", u, work.constant(2, np.float32)), series)
    return [*nodes, helper.make_node("Add", [twice, logarithm], [output])]
