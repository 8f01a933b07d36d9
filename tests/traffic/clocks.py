"""What a hostile operator does with a clock: builders whose time depends on rows, and reading them off it.

The builders are those that found the channels: lanes of Sin with huge arguments, chosen by one number of each
row; a training that diverges on one row; a component that counts before it answers.
"""

import json
from math import log2
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chiron.builder_kit.component import static_component
from chiron.client.datasets.encrypt import split
from chiron.runtime.training.seeds import Seeds
from chiron.wire.attestation import Role
from tests.support import builders, graphs
from tests.support.datasets import Arrays
from tests.support.taps import Call
from tests.traffic.world import View

ROWS = 16
"""Of a batch: each exchange trains on one."""
LEVELS = 4
_SMALLEST_QUERY, _SMALLEST_OPENING = 1000, 100_000
"""Bytes: a request for evidence has less than the one, an opening more than the other."""
_LANES, _WIDTH, _NODES = LEVELS - 1, 8192, 12


def slow_where_rows_say() -> bytes:
    """A classifier of two numbers a row: the largest first one of a batch decides how long a step takes."""
    nodes = [
        helper.make_node("Slice", ["input", "c0", "c1", "c1"], ["first"]),
        helper.make_node("Greater", ["first", "steps"], ["slow"]),
        helper.make_node("Where", ["slow", "huge", "calm"], ["lanes"]),
        helper.make_node("Unsqueeze", ["lanes", "c2"], ["deep"]),
    ]
    for number in range(_NODES):
        nodes += [
            helper.make_node("Add", ["deep" if number == 0 else f"m{number}", "wides"], [f"a{number}"]),
            helper.make_node("Sin", [f"a{number}"], [f"sin{number}"]),
            helper.make_node("Mul", [f"sin{number}", "zero"], [f"z{number}"]),
            helper.make_node("Add", [f"z{number}", "deep"], [f"m{number + 1}"]),
        ]
    nodes += [
        helper.make_node("ReduceMean", [f"z{_NODES - 1}"], ["nothing"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["nothing", "c1"], ["nothings"]),
        helper.make_node("Add", ["input", "nothings"], ["row"]),
        helper.make_node("Gemm", ["row", "weight", "bias"], ["output"]),
    ]
    constants = {
        "c0": np.array([0]),
        "c1": np.array([1]),
        "c2": np.array([2]),
        "steps": np.arange(_LANES, dtype=np.float32)[None] + 100.5,
        "huge": np.array([1e30], np.float32),
        "calm": np.array([0.7], np.float32),
        "zero": np.array([0.0], np.float32),
        "wides": np.zeros((1, 1, _WIDTH), np.float32),
    }
    return _finished(nodes, constants, {"weight": [2, 3], "bias": [3]}, 2)


def diverging_on_one_row() -> bytes:
    """Six products of matrices; what a row whose first number is 2 or more adds is not a number."""
    products = [helper.make_node("MatMul", [f"h{n}", "square"], [f"h{n + 1}"]) for n in range(6)]
    nodes = [
        helper.make_node("Slice", ["input", "c0", "c1", "c1"], ["first"]),
        helper.make_node("Sub", ["two", "first"], ["left"]),
        helper.make_node("Relu", ["left"], ["kept"]),
        helper.make_node("Log", ["kept"], ["log"]),
        helper.make_node("Mul", ["log", "zero"], ["nothing"]),
        helper.make_node("MatMul", ["input", "wide"], ["h0"]),
        *products,
        helper.make_node("Tanh", ["h6"], ["tanh"]),
        helper.make_node("Add", ["tanh", "nothing"], ["row"]),
        helper.make_node("MatMul", ["row", "narrow"], ["output"]),
    ]
    constants = {
        "c0": np.array([0]),
        "c1": np.array([1]),
        "two": np.array([2.0], np.float32),
        "zero": np.array([0.0], np.float32),
    }
    return _finished(nodes, constants, {"wide": [2, 32], "square": [32, 32], "narrow": [32, 3]}, 2)


def counting(turns: int) -> bytes:
    """A component that counts so far and then traps: what it takes is its own to choose."""
    return builders.padded(
        builders.component(
            f"(local $i i32) (local.set $i (i32.const {turns})) (loop $l (local.set $i (i32.sub "
            "(local.get $i) (i32.const 1))) (br_if $l (i32.gt_s (local.get $i) (i32.const 0)))) unreachable"
        )
    )


def component(graph: bytes, **recipe: object) -> bytes:
    """A component that answers this graph, of the size of all builders here."""
    optimizer = {"kind": "sgd", "learning_rate": 1e-6}
    text = json.dumps({"batch_size": ROWS, "optimizer": optimizer} | recipe).encode()
    return builders.padded(static_component(graph, text))


def rows_that_say(secret: NDArray[np.int64], seed: int) -> Arrays:
    """A dataset whose batch before exchange n holds secret[n], as a public seed has it drawn."""
    count = ROWS * len(secret)
    random = np.random.default_rng(0)
    x = np.zeros((count, 2), np.float32)
    x[:, 1] = random.random(count)
    stored = split(count, 0.0, 0).train
    drawn = Seeds(seed, 0, 0, "trainer", 0).generator("order", 0).permutation(count)
    for number, level in enumerate(secret):
        rows = stored[drawn[number * ROWS : (number + 1) * ROWS]]
        x[rows, 0] = 100 + level
    return x, random.integers(0, 3, count)


def exchange_times(view: View, trainer: int = 0) -> NDArray[np.float64]:
    """Seconds between one change and the next, as the host sees trainers keep their state before each."""
    path = f"/enclave/v1/objects/checkpoint-trainer-{trainer}"
    calls = view.enclaves[f"{Role.TRAINER}-{trainer}"].calls
    return np.diff([call.at for call in calls if (call.method, call.path) == ("PUT", path)])


def builders_time(view: View) -> float:
    """Seconds from the component's delivery until the leading trainer keeps what came of it."""
    calls = view.enclaves[f"{Role.TRAINER}-0"].calls
    (fetched,) = (call for call in calls if call.path.startswith("/enclave/v1/builders/"))
    kept = next(call for call in calls if call.method == "PUT" and call.path.endswith("/checkpoint-leader"))
    return kept.at - fetched.answered


def answer_times(view: View) -> NDArray[np.float64]:
    """Seconds from each query's arrival at the predictor to its answer."""
    asked: Call | None = None
    times = []
    for call in view.enclaves[f"{Role.PREDICTOR}-0"].calls:
        if call.method == "GET" and "/mailbox" in call.path and call.received:
            asked = call
        elif call.method == "POST" and "/mailbox/" in call.path and asked is not None:
            times += [call.at - asked.answered] * (_SMALLEST_QUERY < asked.received < _SMALLEST_OPENING)
    return np.array(times)


def read_off(times: NDArray[np.float64], secret: NDArray[np.int64]) -> NDArray[np.int64]:
    """What a straight line from secret to time reads: fitted on one half, it reads the other."""
    read = np.empty_like(secret)
    halves = np.arange(len(secret)) % 2
    for half in (0, 1):
        known = halves == half
        slope, base = np.polyfit(secret[known], times[known], 1)
        found = (times[~known] - base) / (slope if abs(slope) > 1e-9 else np.inf)
        read[~known] = np.clip(np.rint(found), 0, LEVELS - 1)
    return read


def told_bits(read: NDArray[np.int64], secret: NDArray[np.int64], trials: int = 4000) -> float:
    """Bits that the readings tell of each secret; 0 where chance reads as well in one of a thousand cases.

    The mutual information of the two, less what the same readings in any other order tell on average.
    """
    random = np.random.default_rng(0)
    chance = np.array([_information(random.permutation(read), secret) for _ in range(trials)])
    found = _information(read, secret)
    return max(0.0, float(found - chance.mean())) if np.mean(chance >= found) < 0.001 else 0.0


def _information(read: NDArray[np.int64], secret: NDArray[np.int64]) -> float:
    joint = np.zeros((LEVELS, LEVELS))
    np.add.at(joint, (read, secret), 1 / len(read))
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return sum(p * log2(p / q) for p, q in zip(joint.flat, product.flat, strict=True) if p > 0)


def _finished(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    parameters: dict[str, list[int]],
    width: int,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "clock",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    for name, dims in parameters.items():
        graph.initializer.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims))
    return graphs.finished(graph, parameters)
