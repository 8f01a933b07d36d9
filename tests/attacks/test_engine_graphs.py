"""Graphs that fail, or write out of bounds, where a row of the owner's makes them."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions

from chiron.runtime.roles.plan import Plan
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.training import partition
from chiron.runtime.training.errors import ENGINE_SILENT
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import BuildRequest, InputType, Task
from scripts.benchmarks.in_process import LocalEngines
from tests.support.jobs import make_job
from tests.support.networks import Network

CLASSES, WORDS = 3, 5
SECRET = 4711
"""A word that is in no table."""


def _looks_up() -> AdmittedGraph:
    """The rows' first number as a word of a table."""
    net = Network([1])
    words = net.add("Gather", net.normal("table", WORDS, 4, scale=0.5), net.add("Cast", "input", to=7))
    net.dense(net.add("Flatten", words), "d", 4, CLASSES)
    return net.admitted((CLASSES,))


def _fetched(x: NDArray[np.float32]) -> tuple[list[list[int]], str | None]:
    """What the host sees of a trainer on these rows: chunks that it asks for before each exchange."""
    job = make_job(x, np.arange(len(x)) % CLASSES, classes=CLASSES, rows=10, exchanges=4)
    run = TrialRun(job.spec, 0, 0, LocalEngines((_looks_up(), Recipe(epochs=3, batch_size=8))))
    asked: list[list[int]] = []

    async def train() -> None:
        await run.begin(Plan(b"", b"", Recipe()))
        for exchange in range(4):
            asked.append([])
            await run.train(job.dataset(asked[-1]), exchange, 4)

    asyncio.run(train())
    return asked, run.failure


@pytest.mark.parametrize("row", [0, 41, 96])
def test_the_row_at_which_a_graph_fails_is_not_told_by_the_chunks_that_are_fetched(
    row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr("chiron.runtime.training.feed.WINDOW_BYTES", 400)
    # No graph that we know of fails by its data any more: this one, whose words are not held to the table.
    monkeypatch.setattr("chiron.runtime.training.forms.bound_indices", lambda model: None)
    x = (np.arange(97, dtype=np.float32) % WORDS)[:, None]
    usual, failure = _fetched(x)
    assert failure is None
    x[row] = SECRET
    tripped, failure = _fetched(x)
    assert failure is not None
    assert tripped == usual


@pytest.mark.parametrize("word", [SECRET, -SECRET, np.nan, np.inf])
def test_a_word_that_is_in_no_table_is_held_to_it(word: float) -> None:
    x = (np.arange(97, dtype=np.float32) % WORDS)[:, None]
    x[41] = word
    _, failure = _fetched(x)
    assert failure is None


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("side", [2, 3])
def test_a_pool_of_what_is_not_finite_has_no_gradient_out_of_bounds(value: float, side: int) -> None:
    net = Network([2, 6, 6])
    scaled = net.add("Mul", "input", net.filled("scale", 1, value=1.0))
    pooled = net.add("MaxPool", scaled, kernel_shape=[side, side], strides=[side, side])
    net.dense(net.add("Flatten", pooled), "d", 2 * (6 // side) ** 2, CLASSES)
    request = BuildRequest(
        task=Task.CLASSIFICATION,
        input_shape=(2, 6, 6),
        input_dtype=InputType.FLOAT32,
        classes=CLASSES,
        max_parameters=10**6,
    )
    model = ModelProto.FromString(training_model(net.admitted((CLASSES,)), Recipe(), request).onnx)
    written = [node.input[1] for node in model.graph.node if node.op_type == "MaxPoolGrad"]
    if side == 2:
        assert not written, "the form without indices"
        return
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(written[0], TensorProto.INT64, None))
    options = SessionOptions()
    options.log_severity_level = ENGINE_SILENT
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.full((4, 2, 6, 6), value, np.float32)
    known = {"input": x}
    feed = {
        given.name: known.get(
            given.name, np.ones([d.dim_value or 4 for d in given.type.tensor_type.shape.dim])
        )
        for given in model.graph.input
    }
    needed = {given.name for given in session.get_inputs()}
    (places,) = session.run(None, {name: v.astype(np.float32) for name, v in feed.items() if name in needed})
    assert 0 <= places.min() <= places.max() < x.size
