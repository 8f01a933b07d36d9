"""Passes over sums of gradients: of biases over the batch, of an embedding's rows over their uses."""

from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, helper

from chiron.runtime.training.rewrites.editing import Rewriting, Shape

_SCATTER_ADDS = 16
"""The opset from which ScatterND adds."""


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
