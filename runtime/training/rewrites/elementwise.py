"""Passes over gradients of elementwise operators."""

import numpy as np
from onnx import NodeProto, helper

from chiron.runtime.training.rewrites.editing import Rewriting

_LARGE = 2.0**127


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
