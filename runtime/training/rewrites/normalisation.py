"""Passes over gradients of normalisations."""

from typing import Any

import numpy as np
from onnx import NodeProto, helper

from chiron.runtime.training.rewrites.editing import Rewriting


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
