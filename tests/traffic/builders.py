"""Builders of every temper, as components of one size: what the host sees of a builder is its own upload."""

import json
from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper

from chiron.builder_kit.component import static_component
from tests.end_to_end import graphs
from tests.end_to_end.static_builder import building_then, component, giving_up, revising

COMPONENT_BYTES = 200_000
INPUT = (8, 8)
UINT8 = int(onnx.TensorProto.UINT8)


def recipe(**changes: Any) -> bytes:
    """A recipe that learns the digits, or does what `changes` say."""
    usual = {"optimizer": {"kind": "adamw", "learning_rate": 0.01}, "batch_size": 32, "epochs": 5}
    return json.dumps(usual | changes).encode()


def padded(made: bytes) -> bytes:
    """The same component, filled to `COMPONENT_BYTES` with a custom section, which nothing reads."""
    body = b"\x03pad" + bytes(COMPONENT_BYTES - len(made) - 10)
    size = len(body)
    leb = bytes((size >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    filled = made + b"\0" + leb + body
    assert len(filled) == COMPONENT_BYTES
    return filled


def orderly(**changes: Any) -> bytes:
    """A linear classifier."""
    return padded(static_component(graphs.linear(INPUT, UINT8), recipe(**changes)))


def deep(layers: int) -> bytes:
    """A classifier with many nodes: as if their number were to tell something."""
    nodes = [
        helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["row0"], axis=1),
        *(helper.make_node("Relu", [f"row{n}"], [f"row{n + 1}"]) for n in range(layers)),
        helper.make_node("Gemm", [f"row{layers}", "weight", "bias"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("input", UINT8, ["N", *INPUT])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])],
    )
    for name, shape in (("bias", [10]), ("weight", [64, 10])):
        graph.initializer.append(onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape))
    return padded(static_component(graphs.finished(graph, {"weight": [64, 10], "bias": [10]}), recipe()))


def diverging() -> bytes:
    """A classifier whose first loss is not finite."""
    return padded(static_component(_diverging_graph(), recipe()))


def _diverging_graph() -> bytes:
    """e^(e^x) overflows for x beyond 4.5."""
    model = onnx.load_from_string(graphs.linear(INPUT, UINT8))
    (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
    gemm.output[0] = "scores"
    model.graph.node.insert(1, helper.make_node("Mul", ["numbers", "numbers"], ["huge"]))
    model.graph.node[2].input[0] = "huge"
    model.graph.node.extend(
        [helper.make_node("Exp", ["scores"], ["more"]), helper.make_node("Exp", ["more"], ["output"])]
    )
    return bytes(model.SerializeToString())


_LINEAR = graphs.linear(INPUT, UINT8)
REVISING: dict[str, Callable[[], bytes]] = {
    "one that improves once": lambda: padded(revising(_LINEAR, recipe(epochs=1), recipe(epochs=5))),
    "one that gives up": lambda: padded(giving_up(_LINEAR, recipe())),
    "one that diverges in its second trial": lambda: padded(
        revising(_LINEAR, recipe(), recipe(), _diverging_graph())
    ),
    "one that traps when it should revise": lambda: padded(building_then(_LINEAR, recipe(), "unreachable")),
    "one that builds nothing": lambda: padded(component("unreachable")),
}
"""Builders for jobs of several trials."""


BUILDERS: dict[str, Callable[[], bytes]] = {
    "one that trains shortly": lambda: orderly(epochs=1),
    "a graph of many nodes": lambda: deep(60),
    "one whose training diverges": diverging,
    "one that stops early": lambda: orderly(early_stop={"patience": 1, "minimum_improvement": 1000.0}),
    "one that traps": lambda: padded(component("unreachable")),
    "one that answers garbage": lambda: padded(static_component(b"\xff" * 5000, b"{}")),
    "one beyond the envelope": lambda: padded(
        static_component(graphs.linear(INPUT, UINT8, width=5000), recipe())
    ),
    "a recipe that is none": lambda: padded(
        static_component(graphs.linear(INPUT, UINT8), b'{"batch_size": -1}')
    ),
}
