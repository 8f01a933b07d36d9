"""Every rewriting pass against the untouched graph: the same loss, outputs, gradients and statistics."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.losses import TargetEncoder
from chiron.runtime.training.rewrites import FORWARD_PASSES, PASSES
from chiron.runtime.training.rewrites.convolutions import block_size
from chiron.runtime.training.rewrites.editing import Rewriting
from chiron.runtime.training.sessions import GradientSession
from chiron.runtime.training.training_model import TrainingModel, training_model
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import BuildRequest, InputType, Task
from tests.support.networks import Network

CLASSES, SIDE, ROWS = 4, 12, 6


def network(channels: int, *, kernel: int = 3, stride: int = 1, pool: int = 2) -> AdmittedGraph:
    """Conv, Relu, Conv, Relu, MaxPool, Conv, batch norm, Relu, mean, dense."""
    net = Network([channels, SIDE, SIDE])
    first = net.add("Relu", net.conv("input", "a", channels, channels, kernel=kernel))
    second = net.add("Relu", net.conv(first, "b", channels, 2 * channels, kernel=kernel, stride=stride))
    pooled = net.add("MaxPool", second, kernel_shape=[pool] * 2, strides=[pool] * 2)
    third = net.add(
        "Relu", net.batch_norm(net.conv(pooled, "c", 2 * channels, channels, kernel=1), "n", channels)
    )
    mean = net.add("Flatten", net.add("GlobalAveragePool", third))
    net.dense(mean, "d", channels, CLASSES)
    return net.admitted((CLASSES,))


def normalised() -> AdmittedGraph:
    """Rows of vectors, normalised twice, with one normalisation's input needing no gradient."""
    net = Network([5, 6])
    scale, shift = net.normal("n.scale", 6, scale=1.0), net.normal("n.bias", 6, scale=1.0)
    x = net.add("LayerNormalization", "input", scale, shift, axis=-1, epsilon=1e-3)
    x = net.add("MatMul", x, net.normal("m.weight", 6, 8, scale=0.5))
    scale, shift = net.normal("o.scale", 8, scale=1.0), net.normal("o.bias", 8, scale=1.0)
    x = net.add("Relu", net.add("LayerNormalization", x, scale, shift, axis=2))
    net.dense(net.add("Flatten", x), "d", 40, CLASSES)
    return net.admitted((CLASSES,))


def tokens() -> AdmittedGraph:
    """Words from a table (also from its end), each at its place, one dense layer a word, and a mean."""
    net = Network([5])
    table, place = net.normal("table", 7, 8, scale=0.5), net.normal("place", 5, 8, scale=0.5)
    words = net.add("Gather", table, net.add("Cast", "input", to=TensorProto.INT64), axis=0)
    words = net.add("Reshape", words, net.constant([-1, 5, 8]))
    weight, bias = net.normal("e.weight", 8, 6, scale=0.5), net.normal("e.bias", 6, scale=0.5)
    x = net.add("Relu", net.add("Add", net.add("MatMul", net.add("Add", words, place), weight), bias))
    x = net.add("Reshape", x, net.constant([0, 3, 10]))
    net.dense(net.add("ReduceMean", x, axes=[1], keepdims=0), "d", 10, CLASSES)
    return net.admitted((CLASSES,))


CASES = {
    "tokens": tokens(),
    "layer normalisation": normalised(),
    "channels that fill blocks": network(16),
    "channels that do not": network(6),
    "strided": network(16, stride=2),
    "wide kernel": network(16, kernel=5),
    "pool of three": network(16, pool=3),
}


def request(graph: AdmittedGraph) -> BuildRequest:
    shape = tuple(d.dim_value for d in graph.forward.graph.input[0].type.tensor_type.shape.dim[1:])
    return BuildRequest(
        task=Task.CLASSIFICATION,
        input_shape=shape,
        input_dtype=InputType.FLOAT32,
        classes=CLASSES,
        max_parameters=10**6,
    )


def run(graph: AdmittedGraph, built: TrainingModel, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    layout = FlatLayout(graph.parameters)
    vector = np.random.default_rng(2).normal(scale=0.25, size=layout.elements).astype(np.float32)
    gradient = np.zeros_like(vector)
    for parameter in graph.parameters:
        if parameter.name.endswith("running_var"):
            vector[layout.spans[parameter.name]] = 1
    session = GradientSession(built, layout, vector, gradient, 1)
    encoder = TargetEncoder(Recipe().loss, request(graph))
    classes = np.arange(ROWS) % CLASSES
    loss, outputs = session.run(x, encoder.encode(encoder.dense(classes)), {})
    measured = {"loss": np.asarray(loss, np.float32), "outputs": outputs.copy(), "gradient": gradient}
    return measured | {name: value.copy() for name, value in session.statistics.items()}


def assert_same(found: dict[str, NDArray[np.float32]], wanted: dict[str, NDArray[np.float32]]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = float(np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5 * scale, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_all_passes_together_change_no_number(case: str) -> None:
    graph = CASES[case]
    x = np.random.default_rng(1).normal(size=(ROWS, *request(graph).input_shape)).astype(np.float32)
    plain = training_model(graph, Recipe(), request(graph), rewritten=False)
    rewritten = training_model(graph, Recipe(), request(graph))
    assert rewritten.onnx != plain.onnx
    assert_same(run(graph, rewritten, x), run(graph, plain, x))


@pytest.mark.parametrize("case", ["channels that fill blocks", "tokens"])
@pytest.mark.parametrize("single", [*FORWARD_PASSES, *PASSES], ids=lambda single: single.__name__)
def test_each_pass_alone_changes_no_number(
    single: Callable[[Rewriting], None], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = CASES[case]
    x = np.random.default_rng(1).normal(size=(ROWS, *request(graph).input_shape)).astype(np.float32)
    plain = training_model(graph, Recipe(), request(graph), rewritten=False)
    forward = (single,) if single in FORWARD_PASSES else ()
    monkeypatch.setattr("chiron.runtime.training.rewrites.FORWARD_PASSES", forward)
    monkeypatch.setattr("chiron.runtime.training.rewrites.PASSES", () if forward else (single,))
    rewritten = training_model(graph, Recipe(), request(graph))
    assert_same(run(graph, rewritten, x), run(graph, plain, x))


def operators(built: TrainingModel) -> list[str]:
    model = ModelProto()
    model.ParseFromString(built.onnx)
    return [f"{node.domain}:{node.op_type}" for node in model.graph.node]


def test_what_the_passes_leave_of_the_slow_operators() -> None:
    graph = CASES["channels that fill blocks"]
    left = operators(training_model(graph, Recipe(), request(graph)))
    assert "com.microsoft:ReluGrad" not in left
    assert ":MaxPoolGrad" not in left
    if block_size():
        assert ":Conv" not in left
        assert left.count("com.microsoft.nchwc:Conv") == 5  # three forward, two for input gradients


def test_layer_normalisations_are_rewritten() -> None:
    graph = CASES["layer normalisation"]
    plain = operators(training_model(graph, Recipe(), request(graph), rewritten=False))
    assert plain.count("com.microsoft:LayerNormalizationGrad") == 2
    left = operators(training_model(graph, Recipe(), request(graph)))
    assert "com.microsoft:LayerNormalizationGrad" not in left


def test_sums_over_the_batch_are_products_and_an_embedding_s_gradient_a_scatter() -> None:
    graph = CASES["tokens"]
    plain = operators(training_model(graph, Recipe(), request(graph), rewritten=False))
    assert "com.microsoft:GatherGrad" in plain
    assert "com.microsoft:BroadcastGradientArgs" in plain, "the batch is lost at the Reshape"
    left = operators(training_model(graph, Recipe(), request(graph)))
    assert "com.microsoft:GatherGrad" not in left
    assert "com.microsoft:BroadcastGradientArgs" not in left
    assert left.count(":ReduceSum") == 1, "the loss's"


def test_the_first_layer_has_no_input_gradient() -> None:
    graph = CASES["channels that do not"]
    built = training_model(graph, Recipe(), request(graph), rewritten=False)
    model = ModelProto()
    model.ParseFromString(built.onnx)
    first = [n for n in model.graph.node if n.op_type == "ConvGrad" and n.input[2] == "a.weight"]
    assert [node.output[0] for node in first] == [""]


def test_tied_maxima_share_their_gradient() -> None:
    """Over a constant image every window ties; the gradient of all weights is that of the untouched graph."""
    graph = CASES["channels that fill blocks"]
    x = np.ones((ROWS, *request(graph).input_shape), np.float32)
    plain = run(graph, training_model(graph, Recipe(), request(graph), rewritten=False), x)
    rewritten = run(graph, training_model(graph, Recipe(), request(graph)), x)
    layout = FlatLayout(graph.parameters)
    for name in ("d.weight", "d.bias", "n.weight", "n.bias"):
        span = layout.spans[name]
        np.testing.assert_allclose(rewritten["gradient"][span], plain["gradient"][span], rtol=1e-3, atol=1e-6)
