"""Passes over gradients: of elementwise operators, of normalisations, of biases and embeddings."""

from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from chiron.runtime.training.rewrites.editing import Rewriting, Shape

_LARGE = 2.0**127
_SCATTER_ADDS = 16
"""The opset from which ScatterND adds."""


def relu_gradient_as_mask(work: Rewriting) -> None:
    """ReluGrad(dY, X) → dY × clip(Y × 2¹²⁷, 0, 1), Y being the Relu's output.

    The engine's kernel is not vectorised, nor is its cast of a comparison to numbers; a product and a clip
    are. A Y too small for all of float32's digits, below 2⁻¹²⁷, lets a part of the gradient through. And with
    the output instead of the input, nothing needs the input any more: the Relu runs in place.
    """
    outputs = {node.input[0]: node.output[0] for node in work.nodes if node.op_type == "Relu"}
    large, zero, one = (work.constant(value, np.float32) for value in (_LARGE, 0, 1))

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "ReluGrad":
            return None
        source = outputs.get(node.input[1], node.input[1])
        scale, scaled = work.add("Mul", [source, large])
        clip, mask = work.add("Clip", [scaled, zero, one])
        return [scale, clip, helper.make_node("Mul", [node.input[0], mask], node.output)]

    work.replace(change)


def layer_norm_gradient_as_elementwise(work: Rewriting) -> None:
    """LayerNormalizationGrad over the last dimension → products, differences and sums.

    With x̂ = (X − mean) × r and g = dY × scale, of D elements each (arXiv:1607.06450, supplement):
    dX = r × (g − Σg/D − x̂ × Σ(g x̂)/D), dscale = Σ dY x̂, dbias = Σ dY. The engine's kernel is not vectorised.
    """

    def change(node: NodeProto) -> list[NodeProto] | None:
        shape = work.shapes.get(node.input[1]) if node.op_type == "LayerNormalizationGrad" else None
        width = work.shapes.get(node.input[2], ()) if shape else ()
        has = {a.name: a.i for a in node.attribute}
        if not shape or len(width) != 1 or not width[0] or has.get("axis", -1) not in (-1, len(shape) - 1):
            return None
        return _elementwise(work, node, len(shape), width[0])

    work.replace(change)


def _elementwise(work: Rewriting, node: NodeProto, rank: int, width: int) -> list[NodeProto]:
    dy, x, scale, mean, r = node.input
    nodes: list[NodeProto] = []

    def add(op_type: str, *inputs: str, **attributes: Any) -> str:
        made, value = work.add(op_type, inputs, **attributes)
        nodes.append(made)
        return value

    last, rows = work.constant([rank - 1], np.int64), work.constant(list(range(rank - 1)), np.int64)
    share = work.constant(1 / width, np.float32)
    centred = add("Mul", add("Sub", x, mean), r)
    product = add("Mul", dy, centred)
    if node.output[0]:
        g = add("Mul", dy, scale)
        plain = add("Mul", add("ReduceSum", g, last, keepdims=1), share)
        along = add("Mul", add("ReduceSum", add("Mul", product, scale), last, keepdims=1), share)
        rest = add("Sub", add("Sub", g, plain), add("Mul", centred, along))
        nodes.append(helper.make_node("Mul", [rest, r], node.output[:1]))
    for output, summed in zip(node.output[1:], (product, dy), strict=False):
        if output:
            nodes.append(helper.make_node("ReduceSum", [summed, rows], [output], keepdims=0))
    return nodes


def leading_sums_as_products(work: Rewriting) -> None:
    """ReduceSum over leading dimensions → a row of ones times a matrix.

    The engine sums through a general reduction; its product of a vector and a matrix is four times as fast.
    Sums over the same leading dimensions share their ones.
    """
    ones: dict[Shape, str] = {}

    def change(node: NodeProto) -> list[NodeProto] | None:
        summed, kept = _leading(work, node)
        if not summed or not kept:
            return None
        nodes: list[NodeProto] = []
        matrix = node.input[0]
        if len(summed) > 1 or len(kept) > 1:
            flatten, matrix = work.add("Reshape", [matrix, work.constant([-1, prod(kept)], np.int64)])
            nodes.append(flatten)
        if summed not in ones:
            ones[summed] = _row_of_ones(work, nodes, matrix)
        multiply, row = work.add("MatMul", [ones[summed], matrix])
        back = helper.make_node("Reshape", [row, work.constant(kept, np.int64)], node.output)
        return [*nodes, multiply, back]

    work.replace(change)


def _leading(work: Rewriting, node: NodeProto) -> tuple[Shape, tuple[int, ...]]:
    """Dimensions that a ReduceSum sums over and that it leaves; none where it is not of that form."""
    if node.op_type != "ReduceSum" or len(node.input) != 2:
        return (), ()
    shape, axes = work.named_shape(node.input[0]), work.values.get(node.input[1])
    keeps = any(attribute.name == "keepdims" and attribute.i for attribute in node.attribute)
    if shape is None or axes is None or keeps or sorted(axes.tolist()) != list(range(axes.size)):
        return (), ()
    return shape[: axes.size], tuple(size for size in shape[axes.size :] if isinstance(size, int))


def _row_of_ones(work: Rewriting, nodes: list[NodeProto], matrix: str) -> str:
    """[1, rows of the matrix]"""
    zero, one = (work.constant([n], np.int64) for n in (0, 1))
    value = matrix
    for op_type, inputs in (("Shape", []), ("Slice", [zero, one])):
        node, value = work.add(op_type, [value, *inputs])
        nodes.append(node)
    node, value = work.add("Concat", [one, value], axis=0)
    filled = helper.make_tensor("ones", TensorProto.FLOAT, [1], [1.0])
    fill, ones = work.add("ConstantOfShape", [value], value=filled)
    nodes.extend([node, fill])
    return ones


def embedding_gradient_as_scatter(work: Rewriting) -> None:
    """GatherGrad over rows → ScatterND that adds. The engine's own first sorts all indices."""
    if work.opset < _SCATTER_ADDS:
        return
    last = work.constant([-1], np.int64)

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "GatherGrad" or any(a.name == "axis" and a.i for a in node.attribute):
            return None
        shape, indices, gradient = node.input
        fill, zeros = work.add("ConstantOfShape", [shape])
        cast, whole = work.add("Cast", [indices], to=TensorProto.INT64)
        unsqueeze, places = work.add("Unsqueeze", [whole, last])
        scatter = helper.make_node("ScatterND", [zeros, places, gradient], node.output, reduction="add")
        return [fill, cast, unsqueeze, scatter]

    work.replace(change)
