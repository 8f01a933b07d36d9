"""How values grow with the batch: in proportion, and so no batch takes more than its rows say.

Shapes are inferred for batches of 1, 4 and 11 examples. That says something of every other batch, because of
what may make a dimension. Each operator's output dimensions are sums and products of its inputs' (and of the
numbers of `shape_values`), without any difference, quotient, minimum or look-up:

- a window, `Slice` or `Split` works along dimensions that do not depend on the batch, or takes all of one;
- what `Reshape` takes for -1 is checked: the products on both sides are the same polynomial.

So by induction every dimension, and every size, is a polynomial of the batch whose coefficients are not
negative. Such a polynomial is convex; if it lies on a line at three batches, it is that line everywhere.
(A batch of 1 is special to `Squeeze` without axes, which gives another rank there, and is refused.)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, numpy_helper

from chiron.wasm_sandbox.admission.shapes import Section, Value, Values, infer
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

BATCHES = (1, 4, 11)
_NO_END = 2**31 - 1
"""What exporters write for the end of a dimension, or more."""
Line = tuple[int, int]
"""Slope and offset over the batch, neither negative."""
Lines = tuple[Line, ...]


@dataclass(frozen=True)
class Memory:
    """What running the graph forward takes, if nothing is freed before the end."""

    per_example: int
    """Bytes."""
    fixed: int
    """Bytes."""


def values_by_batch(
    section: Section, source: str, data_type: int, example: Sequence[int], limits: GraphLimits
) -> tuple[Values, ...]:
    """All values of the forward graph, for each of `BATCHES`. `source` is the input; `example` one's shape.

    Raises:
        GraphRefused: graph-invalid, shape-unknown, shape-overflow, type-not-allowed.
    """
    most = max(BATCHES) * (limits.activation_bytes_per_example + limits.activation_bytes_fixed)
    return tuple(
        infer(section, {source: Value(data_type, (batch, *example))}, limits, most) for batch in BATCHES
    )


def activation_memory(section: Section, values: Sequence[Values], limits: GraphLimits) -> Memory:
    """What the values of the nodes take, from their shapes for each of `BATCHES`; of any batch.

    Raises:
        GraphRefused: shape-depends-on-batch, activations-too-large, workspace-too-large.
    """
    lines = {name: _lines([found[name].dims for found in values], name) for name in values[0]}
    per_example = fixed = 0
    for node in section.nodes:
        if not _grows_by_sums_and_products(node, lines, section.known):
            raise refused(GraphCode.SHAPE_DEPENDS_ON_BATCH, f"{node.op_type} along the batch")
        for name in filter(None, node.output):
            growth, constant = _line([found[name].size for found in values], f"{node.op_type} makes {name}")
            per_example += growth
            fixed += constant
        if node.op_type == "Conv" and _unrolled(node, values[0]) > limits.workspace_bytes:
            raise refused(GraphCode.WORKSPACE_TOO_LARGE, node.op_type)
    if per_example > limits.activation_bytes_per_example or fixed > limits.activation_bytes_fixed:
        raise refused(GraphCode.ACTIVATIONS_TOO_LARGE, f"{per_example} bytes an example, {fixed} bytes fixed")
    return Memory(per_example, fixed)


def _lines(shapes: Sequence[tuple[int, ...]], name: str) -> Lines:
    if len({len(dims) for dims in shapes}) > 1:
        raise refused(GraphCode.SHAPE_DEPENDS_ON_BATCH, f"rank of {name}")
    return tuple(_line(sizes, f"a dimension of {name}") for sizes in zip(*shapes, strict=True))


def _line(sizes: Sequence[int], what: str) -> Line:
    """The line through the sizes for `BATCHES`."""
    growth = (sizes[1] - sizes[0]) // (BATCHES[1] - BATCHES[0])
    constant = sizes[0] - BATCHES[0] * growth
    on_line = all(size == constant + batch * growth for size, batch in zip(sizes, BATCHES, strict=True))
    if not on_line or growth < 0 or constant < 0:
        raise refused(GraphCode.SHAPE_DEPENDS_ON_BATCH, what)
    return growth, constant


def _grows_by_sums_and_products(
    node: NodeProto, lines: Mapping[str, Lines], known: Mapping[str, TensorProto]
) -> bool:
    """Whether the module's premise holds of this node."""
    shapes = [lines[name] for name in node.input if name]
    if node.op_type in ("AveragePool", "Conv", "MaxPool"):
        window = [*shapes[0][2:], *(shapes[1] if node.op_type == "Conv" else ())]
        return not _depends(window)
    if node.op_type == "Split":
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        return len(node.output) == 1 or not _depends([shapes[0][axis]])
    if node.op_type == "Slice":
        return all(
            whole or not _depends([shapes[0][axis]])
            for axis, whole in _sliced_axes(node, len(shapes[0]), known)
        )
    if node.op_type == "Reshape":
        return _product(shapes[0]) == _product(lines[node.output[0]])
    return True


def _depends(lines: Iterable[Line]) -> bool:
    return any(growth for growth, _ in lines)


def _sliced_axes(node: NodeProto, rank: int, known: Mapping[str, TensorProto]) -> Iterable[tuple[int, bool]]:
    """Each axis that Slice works along, and whether it takes all of it, however long that is."""
    given = [
        numpy_helper.to_array(known[name]).reshape(-1).tolist() if name else [] for name in node.input[1:]
    ]
    starts, ends, axes, steps = [*given, [], []][:4]
    steps = steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        yield axis % rank, start == 0 and end >= _NO_END and step == 1


def _product(lines: Lines) -> list[int]:
    """Coefficients of the product, from the constant one up, without leading zeros."""
    product = [1]
    for growth, constant in lines:
        raised = [0, *(growth * number for number in product)]
        product = [a + b for a, b in zip(raised, [*(constant * n for n in product), 0], strict=True)]
    while product and product[-1] == 0:
        product.pop()
    return product


def _unrolled(node: NodeProto, values: Values) -> int:
    """Bytes of a convolution's im2col matrix for one example: window elements × output positions."""
    window = values[node.input[1]].dims[1:]
    return math.prod(window) * math.prod(values[node.output[0]].dims[2:]) * 4
