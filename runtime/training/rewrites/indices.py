"""Indices that data decide: held to their bounds, or done without.

So no kernel takes an address from data unchecked (docs/graph-contract.md has the table). All passes work on a
forward graph, before it is differentiated.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.runtime.training.rewrites.editing import Rewriting


def clamped_indices(work: Rewriting) -> None:
    """Gather → the same by an index that is held to -n … n - 1, and counted from the start.

    Its own kernel fails at an index that lies outside, those of its gradient do not all look. A constant that
    lies inside needs nothing.
    """

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Gather" or _lies_inside(work, node):
            return None
        nodes: list[NodeProto] = []
        element = work.types[node.input[1]]
        shape = work.step(nodes, "Shape", node.input[0])
        size = work.step(nodes, "Gather", shape, work.constant(_axis(node), np.int64))
        node.input[1] = _from_start(work, nodes, node.input[1], work.step(nodes, "Cast", size, to=element))
        return [*nodes, node]

    work.replace(change)


def gathers_as_products(work: Rewriting) -> None:
    """Gather of rows by an index that data decide → a matrix of zeros and ones times the table.

    Raises:
        TrainingFailed: addresses-depend-on-data, for another axis than the first, or a table without a size.
    """
    secret = secret_values(work)

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Gather" or node.input[1] not in secret:
            return None
        table, indices = work.shapes.get(node.input[0], (0,)), work.shapes.get(node.input[1])
        if _axis(node) or not all(table) or indices is None:
            raise TrainingFailed(Reason.ADDRESSES)
        nodes: list[NodeProto] = []
        dtype = _dtype(work, node.input[1])
        index = _from_start(work, nodes, node.input[1], work.constant(table[0], dtype))
        hot = _compared(work, nodes, index, np.arange(table[0], dtype=dtype), work.types[node.input[0]])
        rows = work.step(nodes, "Reshape", hot, work.constant([-1, table[0]], np.int64))
        flat = work.constant([table[0], prod(table[1:])], np.int64)
        product = work.step(nodes, "MatMul", rows, work.step(nodes, "Reshape", node.input[0], flat))
        shape = work.constant([size or -1 for size in (*indices, *table[1:])], np.int64)
        return [*nodes, helper.make_node("Reshape", [product, shape], node.output)]

    work.replace(change)


def one_hots_by_comparison(work: Rewriting) -> None:
    """OneHot along the last axis → a comparison with 0, 1, 2, …, and with -n, … -1.

    Raises:
        TrainingFailed: addresses-depend-on-data, for another axis, or values that are not constants.
    """

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "OneHot":
            return None
        depth, values = (work.values.get(name) for name in node.input[1:3])
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        if depth is None or values is None or axis not in (-1, len(work.shapes.get(node.input[0], ()))):
            raise TrainingFailed(Reason.ADDRESSES)
        nodes: list[NodeProto] = []
        size, (off, on) = int(depth.reshape(-1)[0]), values.reshape(-1)
        places = np.arange(size).astype(_dtype(work, node.input[0]))
        hot = [
            _compared(work, nodes, node.input[0], places - shift, work.types[node.input[2]])
            for shift in (0, size)
        ]
        scaled = work.step(
            nodes, "Mul", work.step(nodes, "Add", *hot), work.constant(on - off, values.dtype.type)
        )
        made = helper.make_node("Add", [scaled, work.constant(off, values.dtype.type)], node.output)
        return [*nodes, made]

    work.replace(change)


def secret_values(work: Rewriting) -> frozenset[str]:
    """Operands that data decide: all but constants, shapes, and what is made of these alone."""
    public = set(work.values)
    for node in work.nodes:
        if node.op_type in ("Shape", "Constant") or public.issuperset(filter(None, node.input)):
            public.update(node.output)
    return frozenset(name for node in work.nodes for name in node.input if name and name not in public)


def _axis(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _dtype(work: Rewriting, name: str) -> type[np.generic]:
    return helper.tensor_dtype_to_np_dtype(work.types[name]).type


def _lies_inside(work: Rewriting, node: NodeProto) -> bool:
    known, shape = work.values.get(node.input[1]), work.shapes.get(node.input[0])
    size = shape[_axis(node)] if shape else 0
    return known is not None and bool(((known >= -size) & (known < size)).all()) and size > 0


def _from_start(work: Rewriting, nodes: list[NodeProto], index: str, size: str) -> str:
    """An index of 0 … size - 1: held to its bounds, and counted from 0 where it counts from the end."""
    dtype = _dtype(work, index)
    last = work.step(nodes, "Sub", size, work.constant(1, dtype))
    held = work.step(nodes, "Clip", index, work.step(nodes, "Neg", size), last)
    below = work.step(nodes, "Less", held, work.constant(0, dtype))
    turn = work.step(nodes, "Mul", work.step(nodes, "Cast", below, to=work.types[index]), size)
    return work.step(nodes, "Add", held, turn)


def _compared(
    work: Rewriting, nodes: list[NodeProto], index: str, places: NDArray[np.generic], element: int
) -> str:
    """[…, n]: 1 where the index is that place, else 0."""
    column = work.step(nodes, "Unsqueeze", index, work.constant([-1], np.int64))
    equal = work.step(nodes, "Equal", column, work.constant(places, places.dtype.type))
    return work.step(nodes, "Cast", equal, to=element)
