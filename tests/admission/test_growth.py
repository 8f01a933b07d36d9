"""Memory by batch: what admission says of three batches holds for all that training and prediction use."""

from dataclasses import replace
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

from chiron.runtime.datasets import Examples
from chiron.runtime.training import allocation, partition
from chiron.runtime.training.allocation import StepAllocation, largest_batch
from chiron.runtime.training.feed import StreamedFeed
from chiron.runtime.training.learner import Learner
from chiron.runtime.training.partition import Partition
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import ExportedModel
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.admission.shapes import Section, Value, Values, infer
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.limits import GraphLimits
from chiron.wasm_sandbox.recipe import Recipe
from tests.corpus.components import CORPUS
from tests.corpus.onnx.cases import REQUEST, good, serialised
from tests.support.jobs import make_job
from tests.support.networks import Network
from tests.support.random_graphs import RandomGraph
from tests.support.whole_way import ASSETS, ENVELOPE, SMALL, in_child, request_for

BATCHES = st.integers(1, 5000)


def _admitted(content: bytes) -> AdmittedGraph | None:
    try:
        return admit(content, request_for(content), ENVELOPE, assets=ASSETS, limits=SMALL)
    except SandboxError:
        return None


KERNELS = list(
    filter(None, (_admitted(path.read_bytes()) for path in sorted((CORPUS / "kernels").glob("*.onnx"))))
)
RANDOM = list(islice(filter(None, (_admitted(serialised(RandomGraph(n).model())) for n in count())), 40))


def _values(graph: AdmittedGraph, batch: int) -> Values:
    """Every value of a batch, by inference."""
    model = graph.forward
    parameters = [
        TensorProto(name=p.name, data_type=TensorProto.FLOAT, dims=p.shape) for p in graph.parameters
    ]
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                known[node.output[0]] = attribute.t
    section = Section(
        model.graph.node, model.graph.initializer, known, parameters, model.opset_import[0].version, 10
    )
    source = model.graph.input[0].type.tensor_type
    dims = (batch, *(dim.dim_value for dim in source.shape.dim[1:]))
    return infer(section, {"input": Value(source.elem_type, dims)}, GraphLimits(), 2**40)


@given(batch=BATCHES, place=st.integers(0, len(KERNELS) + len(RANDOM) - 1))
@settings(max_examples=150, deadline=None)
def test_values_take_what_their_batch_says(batch: int, place: int) -> None:
    graph = [*KERNELS, *RANDOM][place]
    made = _values(graph, batch)
    names = {name for node in graph.forward.graph.node for name in node.output if not name.startswith("·")}
    size = sum(made[name].size for name in names)
    assert size == batch * graph.activation_bytes_per_example + graph.activation_bytes_fixed


@pytest.mark.parametrize("batch", [1, 2, 37])
def test_the_engine_makes_values_of_the_shapes_that_were_inferred(batch: int) -> None:
    for graph in KERNELS:
        model = graph.with_values({p.name: np.full(p.shape, 0.5, np.float32) for p in graph.parameters})
        expected = _values(graph, batch)
        wanted = [name for node in model.graph.node for name in node.output if name in expected]
        del model.graph.output[:]
        model.graph.output.extend(
            helper.make_tensor_value_info(name, expected[name].data_type, None) for name in wanted
        )
        options = SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        source = model.graph.input[0].type.tensor_type
        shape = [batch, *(dim.dim_value for dim in source.shape.dim[1:])]
        x = np.ones(shape, np.uint8 if source.elem_type == TensorProto.UINT8 else np.float32)
        try:
            session = InferenceSession(serialised(model), options, providers=["CPUExecutionProvider"])
            made = session.run(wanted, {"input": x})
        except Exception:  # noqa: S112 - one that fails takes no memory, and fails in a job, too
            continue
        assert [value.shape for value in made] == [expected[name].dims for name in wanted]


@given(
    rows=st.integers(20, 400),
    chunk=st.integers(7, 60),
    exchanges=st.integers(2, 12),
    batch=st.integers(1, 200),
    epochs=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_no_batch_of_streamed_rows_is_larger_than_what_is_checked(
    rows: int, chunk: int, exchanges: int, batch: int, epochs: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partition, "IN_MEMORY_BYTES", 1)
        patched.setattr("chiron.runtime.training.feed.WINDOW_BYTES", 400)
        x, y = np.zeros((rows, 2), np.float32), np.arange(rows) % 3
        job = make_job(x, y, classes=3, rows=chunk, exchanges=exchanges)
        recipe = Recipe(epochs=min(epochs, exchanges - 1), batch_size=batch)
        steps, own = StepAllocation.of(job.spec, recipe, 0), Partition.of(job.spec, 0)
        feed = StreamedFeed(own, steps, Seeds(1), job.spec.dataset)
        chunks = [Examples(x[at : at + chunk], y[at : at + chunk]) for at in range(0, rows, chunk)]
        for exchange in range(steps.exchanges):
            given_rows = iter([chunks[number] for number in feed.due(exchange)])
            for portion in feed.portions(given_rows, exchange):
                assert all(len(batch.rows) <= largest_batch(own, steps) for batch in portion.batches)


def _wide(operator: str, operands: int, **attributes: Any) -> bytes:
    """Half a megabyte an example, as so many operands of one operator: whose gradients are as many."""
    node, numbers = helper.make_node, {"axis": [2], "shape": [1, 4, 16_384]}
    nodes = [
        node("Mul", ["input", "scale"], ["scaled"]),
        node("Unsqueeze", ["scaled", "axis"], ["deep"]),
        node("Expand", ["deep", "shape"], ["wide"]),
        node(operator, ["wide"] * operands, ["made"], **attributes),
        node("ReduceMean", ["made"], ["row"], axes=[2], keepdims=0),
        node("MatMul", ["row", "weight"], ["output"]),
    ]
    constants = [numpy_helper.from_array(np.asarray(n, np.int64), name) for name, n in numbers.items()]
    return serialised(good(nodes, parameters={"weight": [4, 3], "scale": [1]}, constants=constants))


@pytest.mark.parametrize("graph", [_wide("Max", 64), _wide("Concat", 16, axis=2), _wide("Softmax", 1)])
def test_gradients_of_many_operands_take_no_more_than_values_are_counted(graph: bytes) -> None:
    admitted = admit(graph, REQUEST, ENVELOPE)
    assert admitted.activation_bytes_per_example > 2**18
    assert in_child(admitted, REQUEST) == "predicted"


def test_predictions_are_made_of_as_many_rows_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network([4])
    net.dense("input", "d", 4, 3)
    graph = replace(net.admitted((3,)), activation_bytes_per_example=48, activation_bytes_fixed=8)
    monkeypatch.setattr(allocation, "ACTIVATION_BYTES", 5 * 48 + 8)
    x = np.random.default_rng(1).random((64, 4), np.float32)
    job = make_job(x, np.arange(64) % 3, classes=3)
    learner = Learner(graph, Recipe(batch_size=2), job.spec, index=0, trial=0)
    learner.initial()
    model = ExportedModel(learner.export(), job.spec)
    assert model.rows_at_once == 5
    assert model.predict(x).shape == (64, 3)
