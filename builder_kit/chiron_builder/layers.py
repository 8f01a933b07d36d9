"""Layers: functions from tensor to tensor. Images are channels first, (channels, height, width).

Parameters are named after their layer: `dense.weight`, `dense_1.weight`, or as `name=` says.
"""

import math
from collections.abc import Callable, Sequence

from . import onnx
from .graph import Tensor
from .initial import GLOROT, HE, ONES, ZEROS, Initial, Normal
from .onnx import ElementType


def dense(
    x: Tensor,
    units: int,
    *,
    bias: bool = True,
    initial: Initial = HE,
    name: str = "dense",
) -> Tensor:
    """A fully connected layer over the flattened input: (…) to (units,)."""
    x = flatten(x)
    width, graph = x.elements, x.graph
    layer = graph.name(name)
    weight = graph.parameter(f"{layer}.weight", [width, units], initial, fan_in=width, fan_out=units)
    operands: list[Tensor | str] = [x, weight]
    if bias:
        operands.append(graph.parameter(f"{layer}.bias", [units], ZEROS))
    return graph.node("Gemm", *operands, shape=[units])


def logits(x: Tensor, *, name: str = "logits") -> Tensor:
    """The last layer of a classification: one score a class. The loss applies the softmax."""
    return dense(x, x.graph.request.classes, initial=GLOROT, name=name)


def conv(
    x: Tensor,
    channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = True,
    initial: Initial = HE,
    name: str = "conv",
) -> Tensor:
    """A two-dimensional convolution; `padding` is kernel // 2 unless given."""
    inputs, height, width = x.shape
    pad = kernel // 2 if padding is None else padding
    graph, layer = x.graph, x.graph.name(name)
    window = inputs // groups * kernel * kernel
    weight = graph.parameter(
        f"{layer}.weight",
        [channels, inputs // groups, kernel, kernel],
        initial,
        fan_in=window,
        fan_out=channels // groups * kernel * kernel,
    )
    operands: list[Tensor | str] = [x, weight]
    if bias:
        operands.append(graph.parameter(f"{layer}.bias", [channels], ZEROS))
    shape = [channels, *(_positions(size, kernel, stride, pad) for size in (height, width))]
    return graph.node(
        "Conv",
        *operands,
        shape=shape,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[pad] * 4,
        group=groups,
    )


def _positions(size: int, kernel: int, stride: int, pad: int) -> int:
    return (size + 2 * pad - kernel) // stride + 1


def batch_norm(
    x: Tensor, *, momentum: float = 0.9, epsilon: float = 1e-5, name: str = "batch_norm"
) -> Tensor:
    """Batch normalisation over the first dimension of an example (arXiv:1502.03167)."""
    graph, layer, channels = x.graph, x.graph.name(name), x.shape[0]
    starts = {"scale": ONES, "bias": ZEROS, "running_mean": ZEROS, "running_variance": ONES}
    operands = [graph.parameter(f"{layer}.{part}", [channels], start) for part, start in starts.items()]
    return graph.node(
        "BatchNormalization", x, *operands, shape=x.shape, momentum=float(momentum), epsilon=float(epsilon)
    )


def layer_norm(x: Tensor, *, epsilon: float = 1e-5, name: str = "layer_norm") -> Tensor:
    """Layer normalisation over the last dimension (arXiv:1607.06450)."""
    graph, layer, width = x.graph, x.graph.name(name), x.shape[-1]
    scale = graph.parameter(f"{layer}.scale", [width], ONES)
    bias = graph.parameter(f"{layer}.bias", [width], ZEROS)
    return graph.node("LayerNormalization", x, scale, bias, shape=x.shape, axis=-1, epsilon=float(epsilon))


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return x.graph.node("Relu", x, shape=x.shape)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return x.graph.node("Tanh", x, shape=x.shape)


def sigmoid(x: Tensor) -> Tensor:
    """Logistic function."""
    return x.graph.node("Sigmoid", x, shape=x.shape)


def gelu(x: Tensor) -> Tensor:
    """x · Φ(x), by the error function (arXiv:1606.08415)."""
    inner = x.graph.node("Erf", x * math.sqrt(0.5), shape=x.shape)
    return x * (inner + 1.0) * 0.5


def dropout(x: Tensor, rate: float = 0.5) -> Tensor:
    """Sets a fraction of the elements to zero, in training only."""
    ratio = x.graph.constant("rate", onnx.floats([rate], ()))
    return x.graph.node("Dropout", x, ratio, shape=x.shape)


def residual(x: Tensor, layers: Callable[[Tensor], Tensor]) -> Tensor:
    """x + layers(x) (arXiv:1512.03385); where the shape changes, x goes through a 1 × 1 convolution."""
    inner = layers(x)
    if inner.shape == x.shape:
        return inner + x
    stride = x.shape[1] // inner.shape[1]
    return inner + conv(x, inner.shape[0], 1, stride=stride, bias=False, name="shortcut")


def max_pool(x: Tensor, size: int = 2, *, stride: int | None = None) -> Tensor:
    """Largest value of each window."""
    channels, height, width = x.shape
    step = stride or size
    shape = [channels, _positions(height, size, step, 0), _positions(width, size, step, 0)]
    return x.graph.node("MaxPool", x, shape=shape, kernel_shape=[size, size], strides=[step, step])


def average_pool(x: Tensor, size: int = 2) -> Tensor:
    """Mean of each window of size × size, side by side; the size divides height and width."""
    channels, height, width = x.shape
    # Not AveragePool, whose gradient onnxruntime-training does not have on CPUs.
    windows = reshape(x, [channels, height // size, size, width // size, size])
    shape = [channels, height // size, width // size]
    return x.graph.node("ReduceMean", windows, shape=shape, axes=[3, 5], keepdims=0)


def global_average_pool(x: Tensor) -> Tensor:
    """Mean of each channel: (channels, height, width) to (channels,)."""
    return flatten(x.graph.node("GlobalAveragePool", x, shape=[x.shape[0], 1, 1]))


def flatten(x: Tensor) -> Tensor:
    """All of an example in one dimension."""
    if len(x.shape) == 1:
        return x
    return x.graph.typed_node("Flatten", x, shape=[x.elements], type=x.type, axis=1)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    if math.prod(shape) != x.elements:
        raise ValueError(f"{x.shape} has {x.elements} elements, {tuple(shape)} has others")
    target = x.graph.constant("shape", onnx.int64s([-1, *shape]))
    return x.graph.typed_node("Reshape", x, target, shape=shape, type=x.type)


def transpose(x: Tensor, order: Sequence[int]) -> Tensor:
    """Dimensions in another order; (2, 0, 1) puts the channels of an image first."""
    perm = [0, *(axis + 1 for axis in order)]
    return x.graph.typed_node("Transpose", x, shape=[x.shape[axis] for axis in order], type=x.type, perm=perm)


def concat(*parts: Tensor) -> Tensor:
    """Along the first dimension of an example."""
    shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
    return parts[0].graph.node("Concat", *parts, shape=shape, axis=1)


def cast(x: Tensor, element: ElementType = ElementType.FLOAT32) -> Tensor:
    """Another element type."""
    if x.type is element:
        return x
    return x.graph.typed_node("Cast", x, shape=x.shape, type=element, to=int(element))


def scale(x: Tensor, factor: float, shift: float = 0.0) -> Tensor:
    """x · factor + shift as float32, for instance `scale(graph.input, 1 / 255)`."""
    scaled = cast(x) * factor
    return scaled + shift if shift else scaled


def standardise(x: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(x - mean) / deviation for each element, as granted statistics tell them; a deviation of 0 is left.

    `mean` has one entry for each element, for each index of the first dimension, or one for all.
    """
    positive = [entry if entry > 1e-6 else 1.0 for entry in deviation]
    x = cast(x)
    shape = _column_shape(x, len(mean))
    graph = x.graph
    centred = graph.node("Sub", x, graph.constant("mean", onnx.floats(mean, shape)), shape=x.shape)
    return graph.node(
        "Div", centred, graph.constant("deviation", onnx.floats(positive, shape)), shape=x.shape
    )


def _column_shape(x: Tensor, columns: int) -> tuple[int, ...]:
    if columns == x.elements:
        return x.shape
    if columns == x.shape[0]:
        return (columns, *[1] * (len(x.shape) - 1))
    if columns == 1:
        return ()
    raise ValueError(f"{columns} columns do not fit an input of shape {x.shape}")


def embedding(tokens: Tensor, vocabulary: int, width: int, *, name: str = "embedding") -> Tensor:
    """A vector for each token: (length,) of numbers below `vocabulary` to (length, width)."""
    graph, layer = tokens.graph, tokens.graph.name(name)
    table = graph.parameter(f"{layer}.weight", [vocabulary, width], Normal(0.1))
    indices = cast(tokens, ElementType.INT64)
    return graph.node("Gather", table, indices, shape=[*tokens.shape, width], axis=0)


def embedding_bag(tokens: Tensor, vocabulary: int, width: int, *, name: str = "embedding") -> Tensor:
    """The mean vector of a text's tokens, 0 standing for none: (length,) to (width,)."""
    graph = tokens.graph
    vectors = embedding(tokens, vocabulary, width, name=name)
    zero = graph.constant("none", onnx.int64s([0], ()))
    length = tokens.shape[0]
    indices = cast(tokens, ElementType.INT64)
    present = graph.typed_node("Greater", indices, zero, shape=[length], type=ElementType.BOOL)
    mask = reshape(cast(present), [length, 1])
    total = _sum_rows(graph.node("Mul", vectors, mask, shape=[length, width]))
    count = graph.node("Max", _sum_rows(mask), graph.constant("one", onnx.floats([1.0], ())), shape=[1])
    return graph.node("Div", total, count, shape=[width])


def _sum_rows(x: Tensor) -> Tensor:
    axis = x.graph.constant("axis", onnx.int64s([1]))
    return x.graph.node("ReduceSum", x, axis, shape=x.shape[1:], keepdims=0)


def one_hot(x: Tensor, depth: int) -> Tensor:
    """A vector of 0 and 1 for each number below `depth`: (…) to (…, depth)."""
    graph = x.graph
    size = graph.constant("depth", onnx.int64s([depth], ()))
    values = graph.constant("off_on", onnx.floats([0.0, 1.0]))
    indices = cast(x, ElementType.INT64)
    return graph.node("OneHot", indices, size, values, shape=[*x.shape, depth], axis=-1)
