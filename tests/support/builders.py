"""Builders as small components: orderly ones, some that misbehave at build, and some that revise.

Their code is WAT, so that none takes a compiler. Where it matters what a host sees of them they are padded to
one size: what a host sees of a builder is its own upload.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import wasmtime
from onnx import TensorProto, helper

from chiron.builder_kit.component import SHELL, static_component, wrapped
from tests.support import graphs

COMPONENT_BYTES = 200_000
"""What padded components have."""
INPUT = (8, 8)
UINT8 = int(onnx.TensorProto.UINT8)

_CODE = """
(module
  (memory (export "memory") PAGES)
  (global $next (mut i32) (i32.const 1024))
  (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8)))))
  DATA
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) BODY)
  MORE)
"""
_PLAN_AT = 65536
"""Second page: the first is for what the host passes."""
ENDLESS = "(loop $again (br $again)) unreachable"
GREEDY = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 256)) (i32.const -1)))) unreachable"


def tiny() -> bytes:
    """The smallest component of the builders' world; its `build` traps."""
    return bytes(wasmtime.wat2wasm((Path(__file__).parent / "tiny_builder.wat").read_text()))


def component(body: str) -> bytes:
    """A component of the builders' world whose `build` is this core WebAssembly."""
    return wrapped(_module(body))


def revising(graph: bytes, recipe: bytes, better_recipe: bytes, better_graph: bytes | None = None) -> bytes:
    """Builds with one recipe; revises to a better one for the second trial, and has no idea for the third."""
    second = _PLAN_AT + 2 * 65536
    graph_at = _PLAN_AT + 32 if better_graph is None else second + 32 + len(better_recipe)
    plan = (graph_at, len(better_graph or graph), second + 32, len(better_recipe))
    answer = _numbers(0, 1, *plan).ljust(32, b"\0") + better_recipe + (better_graph or b"")
    nothing = _data(second + 65536, _numbers(0, 0))
    choice = (
        f"(if (result i32) (i32.eq (local.get $trial) (i32.const 1)) "
        f"(then (i32.const {second})) (else (i32.const {second + 65536})))"
    )
    return building_then(graph, recipe, choice, _data(second, answer) + nothing)


def giving_up(graph: bytes, recipe: bytes) -> bytes:
    """Builds, and has no better idea ever."""
    second = _PLAN_AT + 2 * 65536
    return building_then(graph, recipe, f"(i32.const {second})", _data(second, _numbers(0, 0)))


def building_then(graph: bytes, recipe: bytes, answer: str, data: str = "") -> bytes:
    """Builds; every revision is this core WebAssembly, which finds `data` in memory from its fourth page."""
    first = _PLAN_AT
    places = first + 32, first + 32 + len(graph)
    build = _numbers(0, places[0], len(graph), places[1], len(recipe))
    data = _data(first, build.ljust(32, b"\0") + graph + recipe) + data
    shell = SHELL
    for old, new in _REVISION.items():
        assert old in shell
        shell = shell.replace(old, new)
    module = _module(f"(i32.const {first})", _REVISE.replace("ANSWER", answer), data, pages=5)
    return wrapped(module, shell)


def _module(build: str, more: str = "", data: str = "", pages: int = 2) -> bytes:
    text = _CODE
    for name, content in (("PAGES", str(pages)), ("DATA", data), ("BODY", build), ("MORE", more)):
        text = text.replace(name, content)
    return bytes(wasmtime.wat2wasm(text))


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def _data(place: int, content: bytes) -> str:
    escaped = "".join(f"\\{byte:02x}" for byte in content)
    return f'(data (i32.const {place}) "{escaped}")'


_REVISION = {
    """    (func (export "build")""": """    (func (export "revise")
      (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) unreachable)
    (func (export "build")""",
    """  (export "build" (func $build)))""": """  (export "build" (func $build))
  (func $revise (param "request" $build-request)
    (result (result (option $plan) (error string)))
    (canon lift (core func $running "revise") (memory $memory) (realloc $realloc)))
  (export "revise" (func $revise)))""",
}
"""What a builder that revises has besides: the second export."""
_REVISE = """(func (export "revise")
  (param i32 i32 i32 i32 i32 i32 i32 i64) (param $trial i32) (param i32) (result i32) ANSWER)"""


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


def looking_up(then: str = "Identity") -> bytes:
    """The mean of a table's rows, one for each pixel's number, and an operator after it."""
    nodes = [
        helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("Flatten", ["numbers"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node(then, ["mean"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("input", UINT8, ["N", *INPUT])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])],
    )
    graph.initializer.append(TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[17, 10]))
    return padded(static_component(graphs.finished(graph, {"table": [17, 10]}), recipe()))


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
