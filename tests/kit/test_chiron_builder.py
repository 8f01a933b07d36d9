"""The builders' own library: its protobuf is protobuf's, and its layers compute what they say."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto
from onnxruntime import InferenceSession

from chiron.builder_kit import chiron_builder as kit
from chiron.builder_kit.chiron_builder import Request, Tensor, onnx
from chiron.builder_kit.chiron_builder.layers import max_pool
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.recipe import parse_recipe
from chiron.wire.contract import BuildRequest, Envelope, InputType, Task

PARAMETERS = 100_000


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.text(max_size=8), st.floats(width=32))
def test_messages_are_read_by_protobuf_as_they_were_meant(numbers: list[int], text: str, real: float) -> None:
    ints = AttributeProto.FromString(onnx.attribute("a", numbers))
    assert (list(ints.ints), ints.type) == (numbers, AttributeProto.INTS)
    string = AttributeProto.FromString(onnx.attribute(text, text))
    assert (string.name, string.s) == (text, text.encode())
    single = AttributeProto.FromString(onnx.attribute("f", float(real)))
    assert single.type == AttributeProto.FLOAT
    np.testing.assert_equal(single.f, np.float32(real))
    tensor = TensorProto.FromString(onnx.tensor("t", onnx.int64s(numbers)))
    assert np.frombuffer(tensor.raw_data, "<i8").tolist() == numbers


def computed(
    draw: Callable[[Tensor], Tensor], x: NDArray[Any], values: dict[str, NDArray[np.float32]] | None = None
) -> NDArray[np.float32]:
    """What the drawn graph makes of x: admitted, with zero or given parameters, run by onnxruntime."""
    shape, dtype = x.shape[1:], str(x.dtype)
    graph = kit.Graph(Request("regression", shape, dtype, target_shape=(1,), max_parameters=PARAMETERS))
    output = draw(graph.input)
    request = Request("regression", shape, dtype, target_shape=output.shape, max_parameters=PARAMETERS)
    graph = kit.Graph(request)
    # Every admitted graph has a parameter: one that adds nothing.
    nothing = graph.parameter("nothing", [1], kit.ZEROS)
    output = draw(graph.input)
    plan = graph.plan(graph.node("Add", output, nothing, shape=output.shape))
    asked = BuildRequest(
        task=Task.REGRESSION,
        input_shape=shape,
        input_dtype=InputType(dtype),
        target_shape=output.shape,
        max_parameters=PARAMETERS,
    )
    admitted = admit(plan.graph, asked, Envelope(max_parameters=PARAMETERS))
    filled = {p.name: np.zeros(p.shape, np.float32) for p in admitted.parameters} | (values or {})
    session = InferenceSession(
        admitted.with_values(filled).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result = np.asarray(session.run(None, {"input": x})[0])
    assert result.shape == (len(x), *output.shape), "the tensor's shape is the value's"
    return result


RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(3, 6)).astype(np.float32)
IMAGES = RANDOM.normal(size=(2, 4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (kit.relu, lambda x: np.maximum(x, 0)),
        (kit.tanh, np.tanh),
        (kit.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (lambda x: kit.scale(x, 2.0, 1.0), lambda x: 2 * x + 1),
        (lambda x: x * 3.0 - x / 2.0, lambda x: 2.5 * x),
        (lambda x: kit.dropout(x, 0.5), lambda x: x),
        (lambda x: kit.concat(x, x), lambda x: np.concatenate([x, x], axis=1)),
        (lambda x: kit.reshape(x, (2, 3)), lambda x: x.reshape(-1, 2, 3)),
        (lambda x: kit.standardise(x, [1.0] * 6, [2.0] * 5 + [0.0]), lambda x: (x - 1) / [2, 2, 2, 2, 2, 1]),
        (
            lambda x: kit.gelu(x),
            lambda x: x * 0.5 * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2))),
        ),
    ],
    ids=[
        "relu",
        "tanh",
        "sigmoid",
        "scale",
        "arithmetic",
        "dropout",
        "concat",
        "reshape",
        "standardise",
        "gelu",
    ],
)
def test_layers_of_rows(draw: Any, expected: Any) -> None:
    np.testing.assert_allclose(computed(draw, ROWS), expected(ROWS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda x: kit.transpose(x, (2, 0, 1)), lambda x: x.transpose(0, 3, 1, 2)),
        (kit.global_average_pool, lambda x: x.mean(axis=(2, 3))),
        (kit.average_pool, lambda x: x.reshape(2, 4, 3, 2, 4, 2).mean(axis=(3, 5))),
        (max_pool, lambda x: x.reshape(2, 4, 3, 2, 4, 2).max(axis=(3, 5))),
        (kit.flatten, lambda x: x.reshape(2, -1)),
        (lambda x: kit.residual(x, kit.relu), lambda x: x + np.maximum(x, 0)),
        (
            lambda x: kit.standardise(x, [1.0, 2.0, 3.0, 4.0], [2.0] * 4),
            lambda x: (x - np.array([1, 2, 3, 4]).reshape(4, 1, 1)) / 2,
        ),
    ],
    ids=[
        "transpose",
        "global-pool",
        "average-pool",
        "max-pool",
        "flatten",
        "residual",
        "standardise-channels",
    ],
)
def test_layers_of_images(draw: Any, expected: Any) -> None:
    np.testing.assert_allclose(computed(draw, IMAGES), expected(IMAGES), rtol=1e-4, atol=1e-5)


def test_dense_multiplies_and_adds() -> None:
    weight, bias = RANDOM.normal(size=(6, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
    values = {"dense.weight": weight, "dense.bias": bias}
    np.testing.assert_allclose(
        computed(lambda x: kit.dense(x, 4), ROWS, values), ROWS @ weight + bias, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, None), (3, 2, None), (2, 2, 0), (1, 2, None)]
)
def test_convolutions_have_the_shape_that_they_say(kernel: int, stride: int, padding: int | None) -> None:
    computed(lambda x: kit.conv(x, 5, kernel, stride=stride, padding=padding), IMAGES)


def test_an_identity_kernel_leaves_the_image() -> None:
    weight = np.zeros((4, 1, 3, 3), np.float32)
    weight[:, 0, 1, 1] = 1
    draw = lambda x: kit.conv(x, 4, groups=4, bias=False)  # noqa: E731 - one use
    np.testing.assert_allclose(computed(draw, IMAGES, {"conv.weight": weight}), IMAGES, rtol=1e-5)


def test_normalisations_centre_and_scale() -> None:
    ones = np.ones(8, np.float32)
    result = computed(kit.layer_norm, IMAGES, {"layer_norm.scale": ones})
    np.testing.assert_allclose(result.mean(axis=-1), 0, atol=1e-4)
    np.testing.assert_allclose(result.std(axis=-1), 1, atol=1e-2)
    names = {"scale": 2.0, "bias": 1.0, "running_mean": 3.0, "running_variance": 4.0}
    values = {f"batch_norm.{name}": np.full(4, value, np.float32) for name, value in names.items()}
    expected = (IMAGES - 3) / np.sqrt(4 + 1e-5) * 2 + 1
    np.testing.assert_allclose(computed(kit.batch_norm, IMAGES, values), expected, rtol=1e-4, atol=1e-5)


def test_bags_are_means_of_the_vectors_that_are_there() -> None:
    table = RANDOM.normal(size=(10, 3)).astype(np.float32)
    tokens = np.array([[1, 2, 0, 0], [9, 9, 9, 3], [0, 0, 0, 0]], np.float32)
    expected = np.stack([table[[1, 2]].mean(axis=0), table[[9, 9, 9, 3]].mean(axis=0), np.zeros(3)])
    draw = lambda x: kit.embedding_bag(x, 10, 3)  # noqa: E731 - one use
    np.testing.assert_allclose(computed(draw, tokens, {"embedding.weight": table}), expected, rtol=1e-5)


def test_one_hot_marks_each_number() -> None:
    x = np.array([[0, 2], [1, 1]], np.uint8)
    np.testing.assert_array_equal(computed(lambda x: kit.one_hot(x, 3), x), np.eye(3)[x])


def test_initial_values_have_the_spread_that_they_promise() -> None:
    graph = kit.Graph(Request("classification", (400,), classes=100, max_parameters=200_000))
    x = kit.dense(graph.input, 300, bias=False, name="he")
    x = kit.dense(x, 100, bias=False, initial=kit.GLOROT, name="glorot")
    plan = graph.plan(x)
    asked = BuildRequest(
        task=Task.CLASSIFICATION,
        input_shape=(400,),
        input_dtype=InputType.FLOAT32,
        classes=100,
        max_parameters=200_000,
    )
    initial = admit(plan.graph, asked, Envelope(max_parameters=200_000)).initialization
    session = InferenceSession(initial.SerializeToString(), providers=["CPUExecutionProvider"])
    glorot, he = session.run(["glorot.weight", "he.weight"], {})
    assert he.std() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert np.abs(glorot).max() == pytest.approx((6 / 400) ** 0.5, rel=0.02)


def test_the_recipe_is_the_runtimes() -> None:
    graph = kit.Graph(Request("classification", (4,), classes=3))
    plan = graph.plan(kit.logits(graph.input), epochs=3, optimizer={"kind": "sgd", "learning_rate": 0.1})
    assert parse_recipe(plan.recipe.encode()).epochs == 3
    assert json.loads(plan.recipe)["loss"] == {"kind": "cross-entropy"}


def test_mistakes_are_told_where_they_are_made() -> None:
    graph = kit.Graph(Request("classification", (4,), classes=3, max_parameters=20))
    with pytest.raises(ValueError, match=r"shape \(4,\), the job asks for \(3,\)"):
        graph.plan(graph.input)
    with pytest.raises(kit.BuildRefused, match="more than 20 parameters"):
        kit.dense(graph.input, 5)
    with pytest.raises(ValueError, match="differ"):
        graph.input + kit.reshape(graph.input, (2, 2))
    with pytest.raises(ValueError, match="already"):
        graph.parameter("input", [1], kit.ZEROS)
    with pytest.raises(ValueError, match="do not fit"):
        kit.standardise(graph.input, [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="above 0"):
        kit.Normal(0.0)
