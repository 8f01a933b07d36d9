"""Passes over gradients of elementwise operators."""

import numpy as np
from onnx import NodeProto, TensorProto, helper

from runtime.training.rewrites.editing import Rewriting


def relu_gradient_as_mask(work: Rewriting) -> None:
    """ReluGrad(dY, X) → dY × (Y > 0), Y being the Relu's output.

    The engine's kernel is not vectorised; the three of the mask are, and together three times as fast. And
    with the output instead of the input, nothing needs the input any more: the Relu runs in place.
    """
    outputs = {node.input[0]: node.output[0] for node in work.nodes if node.op_type == "Relu"}
    zero = work.constant(0, np.float32)

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "ReluGrad":
            return None
        source = outputs.get(node.input[1], node.input[1])
        compare, positive = work.add("Greater", [source, zero])
        cast, mask = work.add("Cast", [positive], to=TensorProto.FLOAT)
        return [compare, cast, helper.make_node("Mul", [node.input[0], mask], node.output)]

    work.replace(change)
