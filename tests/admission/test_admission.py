"""What is admitted, what becomes of it, and that nothing but a refusal comes of anything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper
from onnxruntime import InferenceSession

from chiron.wasm_sandbox.admission import GraphLimits, admit
from chiron.wasm_sandbox.errors import GraphRefused
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wire.contract import Envelope
from tests.corpus.onnx.cases import ENVELOPE, REQUEST, drawn, good, serialised


def _run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = InferenceSession(serialised(model), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": x})
    return np.asarray(output)


def _normalised() -> ModelProto:
    names = ["scale", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("BatchNormalization", ["scores", *names], ["output"]),
    ]
    return good(nodes, parameters={"weight": [4, 3], **{name: [3] for name in names}})


def test_parameters_are_sorted_and_running_statistics_are_not_trained() -> None:
    admitted = admit(serialised(_normalised()), REQUEST, ENVELOPE)
    assert [(p.name, p.shape, p.trainable) for p in admitted.parameters] == [
        ("bias", (3,), True),
        ("mean", (3,), False),
        ("scale", (3,), True),
        ("variance", (3,), False),
        ("weight", (4, 3), True),
    ]
    assert admitted.elements == 24


def test_with_values_runs_and_computes_the_graph() -> None:
    admitted = admit(serialised(good()), REQUEST, ENVELOPE)
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    x = np.ones((5, 4), np.float32)
    model = admitted.with_values({"weight": weight})
    checker.check_model(model, full_check=True)
    assert not model.training_info
    np.testing.assert_array_equal(_run(model, x), x @ weight)
    assert not admitted.forward.graph.initializer, "the admitted graph itself is not filled in"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"weight": np.zeros((3, 4), np.float32)},
        {"weight": np.zeros((4, 3), np.float64)},
        {"weight": np.zeros((4, 3), np.float32), "more": np.zeros(1, np.float32)},
    ],
    ids=["missing", "shape", "type", "superfluous"],
)
def test_with_values_takes_exactly_the_parameters(values: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"values must be|parameter of shape"):
        admit(serialised(good()), REQUEST, ENVELOPE).with_values(values)


def test_initialization_makes_every_parameter_by_name() -> None:
    admitted = admit(serialised(_normalised()), REQUEST, ENVELOPE)
    session = InferenceSession(serialised(admitted.initialization), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = dict(zip(names, session.run(None, {}), strict=True))
    assert {name: value.shape for name, value in values.items()} == {
        p.name: p.shape for p in admitted.parameters
    }


def test_a_seed_of_the_builders_choosing_is_dropped() -> None:
    node = drawn("weight", [4, 3])
    node.attribute.append(helper.make_attribute("seed", 5.0))
    admitted = admit(serialised(good(initial=[node])), REQUEST, ENVELOPE)
    attributes = [a.name for n in admitted.initialization.graph.node for a in n.attribute]
    assert "shape" in attributes
    assert "seed" not in attributes


def test_names_of_the_initialization_cannot_meet_those_of_parameters() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["bias"], shape=[4, 3]),
        helper.make_node("RandomNormal", [], ["weight"], shape=[3]),
    ]
    forward = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["output"]),
    ]
    crossed = good(
        forward,
        parameters={"weight": [4, 3], "bias": [3]},
        initial=nodes,
        bindings={"weight": "bias", "bias": "weight"},
    )
    admitted = admit(serialised(crossed), REQUEST, ENVELOPE)
    checker.check_model(admitted.initialization, full_check=True)


def test_what_was_not_checked_is_not_kept() -> None:
    model = good()
    model.producer_name, model.doc_string = "secret-producer", "secret-text"
    model.metadata_props.add(key="secret-key", value="secret-value")
    model.graph.doc_string = model.graph.node[0].doc_string = "secret-text"
    model.graph.node[0].name = "secret-node"
    model.graph.value_info.append(helper.make_tensor_value_info("lie", TensorProto.FLOAT, [9]))
    dead = helper.make_node("Relu", ["input"], ["secret-dead-end"])
    model.graph.node.append(dead)
    admitted = admit(serialised(model), REQUEST, ENVELOPE)
    assert b"secret" not in serialised(admitted.forward) + serialised(admitted.initialization)
    assert b"lie" not in serialised(admitted.forward)


def test_memory_is_counted_by_the_example() -> None:
    reshaped = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Relu", ["scores"], ["output"]),
    ]
    admitted = admit(serialised(good(reshaped)), REQUEST, ENVELOPE)
    assert (admitted.activation_bytes_per_example, admitted.activation_bytes_fixed) == (2 * 3 * 4, 0)


def test_a_shape_computed_from_the_batch_is_followed() -> None:
    # As PyTorch exports flatten(1): Shape, Gather, Concat, Reshape.
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    rest = helper.make_tensor("rest", TensorProto.INT64, [1], [-1])
    nodes = [
        helper.make_node("Shape", ["input"], ["size"]),
        helper.make_node("Gather", ["size", "axis"], ["batch"], axis=0),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["input", "target"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    admitted = admit(serialised(good(nodes, constants=[axis, rest])), REQUEST, ENVELOPE)
    model = admitted.with_values({"weight": np.ones((4, 3), np.float32)})
    assert _run(model, np.ones((6, 4), np.float32)).shape == (6, 3)


@pytest.mark.parametrize("opset", [13, 14, 15, 17, 18, 20, 21])
def test_every_opset_from_13_to_21_is_admitted(opset: int) -> None:
    assert admit(serialised(good(opset=opset)), REQUEST, ENVELOPE).elements == 12


def test_the_jobs_bound_counts_as_the_envelopes_does() -> None:
    request = REQUEST.model_copy(update={"max_parameters": 11})
    with pytest.raises(GraphRefused) as refusal:
        admit(serialised(good()), request, ENVELOPE)
    assert refusal.value.code == "parameters-exceed-envelope"


def test_the_envelopes_bytes_are_the_limit() -> None:
    model = good()
    model.doc_string = "x" * 1100
    data = serialised(model)
    within = Envelope(max_parameters=1000, max_graph_bytes=len(data))
    assert admit(data, REQUEST, within).elements == 12
    with pytest.raises(GraphRefused) as refusal:
        admit(data, REQUEST, Envelope(max_parameters=1000, max_graph_bytes=len(data) - 1))
    assert refusal.value.code == "graph-too-large"


def _admits(data: bytes) -> AdmittedGraph | None:
    try:
        return admit(data, REQUEST, ENVELOPE, limits=GraphLimits(fields=20_000))
    except GraphRefused:
        return None


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    assert _admits(data) is None


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_an_altered_model_is_refused_in_order_or_still_runs(data: st.DataObject) -> None:
    original = serialised(_normalised())
    altered = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(altered) - 1))
        altered[position] = data.draw(st.integers(0, 255))
    admitted = _admits(bytes(altered))
    if admitted is not None:
        values = {p.name: np.ones(p.shape, np.float32) for p in admitted.parameters}
        assert _run(admitted.with_values(values), np.ones((2, 4), np.float32)).shape == (2, 3)
