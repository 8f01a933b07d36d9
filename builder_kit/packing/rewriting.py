"""What exporters write and training needs in another form."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from chiron.builder_kit.errors import ModelUnsuitable
from chiron.wire.contract import Task

_LAST_STEPS = frozenset({"Softmax", "LogSoftmax"})
_PASSING = frozenset({"Identity", "Cast"})


def rewritten(model: ModelProto, task: Task, output: str | None) -> ModelProto:
    """The model with one output, of which everything in it is a part, in the forms that are admitted.

    Raises:
        ModelUnsuitable: the output cannot be determined, or an operator has no form with a gradient.
    """
    chosen = _chosen_output(model, output)
    if task is Task.CLASSIFICATION:
        chosen = _before_softmax(model, chosen)
    _keep_live(model, chosen)
    shapes = _shapes(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        rule = _RULES.get(node.op_type)
        nodes += [node] if rule is None else rule(model, node, shapes)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _keep_live(model, chosen)
    return model


def _chosen_output(model: ModelProto, output: str | None) -> str:
    names: list[str] = [value.name for value in model.graph.output]
    if output is not None:
        if output not in names:
            raise ModelUnsuitable(f"there is no output {output!r}: it has {names}")
        return output
    # scikit-learn's classifiers have labels (int64 or strings) and probabilities.
    made = {name: node for node in model.graph.node for name in node.output}
    real = [name for name in names if "label" not in name and name in made]
    if len(real) != 1:
        raise ModelUnsuitable(f"which of its outputs is trained? It has {names}")
    return real[0]


def _before_softmax(model: ModelProto, output: str) -> str:
    made = {name: node for node in model.graph.node for name in node.output}
    name: str = output
    while name in made and made[name].op_type in _PASSING | _LAST_STEPS:
        node = made[name]
        name = node.input[0]
        if node.op_type in _LAST_STEPS:
            return name
    return output


def _keep_live(model: ModelProto, output: str) -> None:
    """Drop all nodes and initializers that the output does not need, and the other outputs."""
    wanted, nodes = {output}, []
    for node in reversed(model.graph.node):
        if wanted.isdisjoint(node.output):
            continue
        nodes.append(NodeProto.FromString(node.SerializeToString()))
        wanted.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in wanted]:
        model.graph.initializer.remove(tensor)
    del model.graph.output[:]
    model.graph.output.add(name=output)


def _shapes(model: ModelProto) -> Mapping[str, list[int]]:
    """Known sizes by value; 0 where a size is not known."""
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info)
    }


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


_Rule = Callable[[ModelProto, NodeProto, Mapping[str, list[int]]], list[NodeProto]]


def _dropout(_model: ModelProto, node: NodeProto, _shapes: Mapping[str, list[int]]) -> list[NodeProto]:
    """Without its training switch, which is the runtime's."""
    del node.input[2:], node.output[1:]
    return [node]


def _reshape(_model: ModelProto, node: NodeProto, _shapes: Mapping[str, list[int]]) -> list[NodeProto]:
    """A Reshape without `allowzero`: no value is empty."""
    return [helper.make_node("Reshape", node.input, node.output)]


def _batch_norm(_model: ModelProto, node: NodeProto, _shapes: Mapping[str, list[int]]) -> list[NodeProto]:
    """A batch normalisation in its form for inference."""
    kept = [attribute for attribute in node.attribute if attribute.name in ("epsilon", "momentum")]
    attributes = {attribute.name: attribute.f for attribute in kept}
    return [helper.make_node("BatchNormalization", node.input, node.output[:1], **attributes)]


def _average_pool(model: ModelProto, node: NodeProto, shapes: Mapping[str, list[int]]) -> list[NodeProto]:
    """A mean over windows side by side: the pooling itself has no gradient on CPUs."""
    attributes, shape = _attributes(node), shapes.get(node.input[0], [])
    size, strides = list(attributes["kernel_shape"]), list(attributes.get("strides", [1, 1]))
    if len(shape) != 4 or 0 in shape[1:] or any(attributes.get("pads", [])):
        raise ModelUnsuitable("AveragePool with padding, or of a shape that is not known")
    if size == shape[2:]:
        return [helper.make_node("GlobalAveragePool", node.input, node.output)]
    if strides != size or shape[2] % size[0] or shape[3] % size[1]:
        raise ModelUnsuitable("AveragePool whose windows overlap or do not fill the image")
    windows = [-1, shape[1], shape[2] // size[0], size[0], shape[3] // size[1], size[1]]
    target, inner = f"{node.output[0]}.windows", f"{node.output[0]}.split"
    model.graph.initializer.append(numpy_helper.from_array(np.array(windows, np.int64), target))
    return [
        helper.make_node("Reshape", [node.input[0], target], [inner]),
        _mean(model, inner, node.output[0], [3, 5]),
    ]


def _mean(model: ModelProto, source: str, output: str, axes: list[int]) -> NodeProto:
    """ReduceMean takes its axes as an input from operator set 18 on."""
    if max(entry.version for entry in model.opset_import) < 18:
        return helper.make_node("ReduceMean", [source], [output], axes=axes, keepdims=0)
    name = f"{output}.axes"
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
    return helper.make_node("ReduceMean", [source, name], [output], keepdims=0)


_RULES: dict[str, _Rule] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Dropout": _dropout,
    "Reshape": _reshape,
}
