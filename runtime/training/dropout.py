"""Dropout in training: its mask is an input of ours, seeded by the step.

The engine's own Dropout keeps a generator from run to run, which a resumed trainer could not restore.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.runtime.training.graphs import OWN

_DEFAULT_RATIO = 0.5


@dataclass(frozen=True)
class Mask:
    """The input [n, elements] that stands for a Dropout's random mask, and the fraction it drops."""

    name: str
    elements: int
    ratio: float

    def draw(self, rows: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """A fresh mask: 0 where a value is dropped, else the factor that keeps the expected value."""
        kept = generator.random((rows, self.elements), np.float32) >= self.ratio
        return kept * np.float32(1 / (1 - self.ratio))


def replace_dropouts(model: ModelProto) -> tuple[Mask, ...]:
    """Put a multiplication with a mask in every Dropout's place, in place of the model.

    Raises:
        TrainingFailed: graph-not-differentiable, where a ratio is not a constant below 1.
    """
    graph = model.graph
    if not any(node.op_type == "Dropout" for node in graph.node):
        return ()
    sizes = _elements_per_example(model)
    masks: list[Mask] = []
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "Dropout":
            nodes.append(_copy(node))
            continue
        value, output = node.input[0], node.output[0]
        mask = Mask(f"{OWN}mask{len(masks)}", sizes[value], _ratio(graph, node))
        masks.append(mask)
        graph.input.append(helper.make_tensor_value_info(mask.name, TensorProto.FLOAT, ["N", mask.elements]))
        shape, shaped = mask.name + "/shape", mask.name + "/shaped"
        nodes.append(helper.make_node("Shape", [value], [shape]))
        nodes.append(helper.make_node("Reshape", [mask.name, shape], [shaped]))
        nodes.append(helper.make_node("Mul", [value, shaped], [output]))
    del graph.node[:]
    graph.node.extend(nodes)
    return tuple(masks)


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _elements_per_example(model: ModelProto) -> dict[str, int]:
    """Elements of each value for a batch of one: admission holds sizes to be proportional to the batch."""
    single = ModelProto()
    single.CopyFrom(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    del single.graph.output[:]
    inferred = infer_shapes(single, data_prop=True).graph
    return {
        value.name: int(np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim]))
        for value in (*inferred.value_info, *inferred.input)
    }


def _ratio(graph: GraphProto, node: NodeProto) -> float:
    if len(node.input) < 2 or not node.input[1]:
        return _DEFAULT_RATIO
    known = {tensor.name: tensor for tensor in graph.initializer}
    for other in graph.node:
        for attribute in other.attribute if other.op_type == "Constant" else ():
            if attribute.type == AttributeProto.TENSOR:
                known[other.output[0]] = attribute.t
            elif attribute.type == AttributeProto.FLOAT:
                known[other.output[0]] = numpy_helper.from_array(np.asarray(attribute.f, np.float32))
    tensor = known.get(node.input[1])
    ratio = float(numpy_helper.to_array(tensor).reshape(-1)[0]) if tensor is not None else 1.0
    if not 0 <= ratio < 1:
        raise TrainingFailed(Reason.NOT_DIFFERENTIABLE)
    return ratio
