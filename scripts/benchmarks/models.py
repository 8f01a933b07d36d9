"""The networks that the benchmarks train, drawn with the builder kit, and examples of their form."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.builder_kit.chiron_builder import (
    HE,
    Graph,
    Normal,
    Plan,
    Request,
    Tensor,
    batch_norm,
    conv,
    dense,
    embedding,
    global_average_pool,
    layer_norm,
    logits,
    max_pool,
    relu,
    reshape,
    residual,
    scale,
    transpose,
)

CLASSES = 10
MAX_PARAMETERS = 40_000_000


class Form(NamedTuple):
    """A model's inputs, and how many examples a second it makes about, for the length of a turn."""

    shape: tuple[int, ...]
    dtype: str
    highest: int
    """Inputs are whole numbers below this."""
    examples: int
    """Of a turn."""


FORMS = {
    "vgg9": Form((3, 32, 32), "uint8", 256, 1024),
    "resnet20": Form((3, 32, 32), "uint8", 256, 2048),
    "mlp": Form((64,), "float32", 16, 131_072),
    "transformer": Form((64,), "uint8", 128, 4096),
}


def request(model: str) -> Request:
    """What the builder of this model is asked."""
    form = FORMS[model]
    return Request("classification", form.shape, form.dtype, (), CLASSES, MAX_PARAMETERS)


def plan(model: str, recipe: dict[str, object]) -> Plan:
    """Graph and recipe, as a builder answers them."""
    graph = Graph(request(model))
    return graph.plan(_NETWORKS[model](graph.input), **recipe)


def examples(model: str, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Random inputs and classes: throughput does not depend on their values."""
    form, rng = FORMS[model], np.random.default_rng(0)
    x = rng.integers(0, form.highest, (count, *form.shape)).astype(form.dtype)
    return x, rng.integers(0, CLASSES, count)


def _vgg9(x: Tensor) -> Tensor:
    """Six convolutions and three dense layers, 3.5 million parameters."""
    x = scale(x, 1 / 255)
    for channels in (32, 64), (128, 128), (256, 256):
        for width in channels:
            x = relu(conv(x, width))
        x = max_pool(x)
    return logits(relu(dense(relu(dense(x, 512)), 512)))


def _resnet20(x: Tensor) -> Tensor:
    """arXiv:1512.03385, section 4.2, with projections: 0.27 million parameters."""
    x = relu(batch_norm(conv(scale(x, 1 / 255), 16, bias=False)))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            x = _basic_block(x, channels, stride if block == 0 else 1)
    return logits(global_average_pool(x))


def _basic_block(x: Tensor, channels: int, stride: int) -> Tensor:
    def layers(inner: Tensor) -> Tensor:
        inner = relu(batch_norm(conv(inner, channels, stride=stride, bias=False)))
        return batch_norm(conv(inner, channels, bias=False))

    return relu(residual(x, layers))


def _mlp(x: Tensor) -> Tensor:
    """Two hidden layers of 256 over a table's row."""
    return logits(relu(dense(relu(dense(scale(x, 1 / 16), 256)), 256)))


WIDTH, HEADS, LAYERS = 128, 4, 2


def _transformer(x: Tensor) -> Tensor:
    """A small encoder over 64 tokens: 2 layers, 4 heads, width 128 (arXiv:1706.03762, pre-norm)."""
    graph, length = x.graph, x.shape[0]
    place = graph.parameter("position", [length, WIDTH], Normal(0.1))
    x = graph.node("Add", embedding(x, 128, WIDTH), place, shape=[length, WIDTH])
    for _ in range(LAYERS):
        x = x + _attention(layer_norm(x))
        x = x + _each(relu(_each(layer_norm(x), 4 * WIDTH)), WIDTH)
    mean = graph.node("ReduceMean", transpose(layer_norm(x), [1, 0]), axes=[2], keepdims=0, shape=[WIDTH])
    return logits(mean)


def _each(x: Tensor, width: int) -> Tensor:
    """A dense layer over each token."""
    graph, inputs = x.graph, x.shape[-1]
    name = graph.name("each")
    weight = graph.parameter(f"{name}.weight", [inputs, width], HE, fan_in=inputs, fan_out=width)
    bias = graph.parameter(f"{name}.bias", [width], Normal(0.01))
    product = graph.node("MatMul", x, weight, shape=[*x.shape[:-1], width])
    return graph.node("Add", product, bias, shape=product.shape)


def _attention(x: Tensor) -> Tensor:
    length, size = x.shape[0], WIDTH // HEADS
    query, key, value = (
        transpose(reshape(_each(x, WIDTH), [length, HEADS, size]), order)
        for order in ([1, 0, 2], [1, 2, 0], [1, 0, 2])
    )
    graph = x.graph
    scores = graph.node("MatMul", query * size**-0.5, key, shape=[HEADS, length, length])
    weights = graph.node("Softmax", scores, shape=scores.shape, axis=-1)
    mixed = graph.node("MatMul", weights, value, shape=[HEADS, length, size])
    return _each(reshape(transpose(mixed, [1, 0, 2]), [length, WIDTH]), WIDTH)


_NETWORKS = {"vgg9": _vgg9, "resnet20": _resnet20, "mlp": _mlp, "transformer": _transformer}


def parameters(model: str) -> int:
    """Elements of all its parameters and buffers."""
    graph = Graph(request(model))
    _NETWORKS[model](graph.input)
    return graph.parameters
