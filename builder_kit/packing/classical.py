"""scikit-learn's linear models as products: their exporter writes operators of `ai.onnx.ml` for them.

Only what trains by gradient can be packed: linear models and scalers. Trees and neighbours cannot.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from chiron.builder_kit.errors import ModelUnsuitable
from chiron.builder_kit.packing.reading import CLASSICAL_DOMAIN

_Replacement = Callable[[ModelProto, NodeProto], list[NodeProto]]


def without_classical_operators(model: ModelProto) -> ModelProto:
    """The model with `ai.onnx.ml` operators replaced, or left out where nothing of the result needs them.

    Raises:
        ModelUnsuitable: for an operator that has no gradient.
    """
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.domain != CLASSICAL_DOMAIN:
            nodes.append(node)
        elif node.op_type in _REPLACEMENTS:
            nodes += _REPLACEMENTS[node.op_type](model, node)
        else:
            raise ModelUnsuitable(f"{node.op_type} cannot be trained by gradient")
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for entry in [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]:
        model.opset_import.remove(entry)
    return model


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant(model: ModelProto, name: str, value: NDArray[np.float32]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return name


def _classifier(model: ModelProto, node: NodeProto) -> list[NodeProto]:
    """LinearClassifier: labels and scores. The scores become logits; nothing may use the labels."""
    attributes = _attributes(node)
    transform = attributes.get("post_transform", b"NONE")
    bias = np.asarray(attributes["intercepts"], np.float32)
    weight = np.asarray(attributes["coefficients"], np.float32).reshape(len(bias), -1)
    if transform == b"LOGISTIC" and len(bias) == 2:
        # Two rows of opposite sign, each through the logistic function: the softmax of half of them.
        weight, bias = weight * np.float32(0.5), bias * np.float32(0.5)
    elif transform not in (b"SOFTMAX", b"NONE"):
        raise ModelUnsuitable(f"a LinearClassifier with {transform.decode()} of {len(bias)} classes")
    scores = node.output[1]
    return [_product(model, node.input[0], weight, bias, scores)]


def _regressor(model: ModelProto, node: NodeProto) -> list[NodeProto]:
    """LinearRegressor."""
    attributes = _attributes(node)
    targets = int(attributes.get("targets", 1))
    weight = np.asarray(attributes["coefficients"], np.float32).reshape(targets, -1)
    bias = np.asarray(attributes.get("intercepts", [0.0] * targets), np.float32)
    return [_product(model, node.input[0], weight, bias, node.output[0])]


def _product(
    model: ModelProto, source: str, weight: NDArray[np.float32], bias: NDArray[np.float32], output: str
) -> NodeProto:
    operands = [
        source,
        _constant(model, f"{output}.weight", weight.T.copy()),
        _constant(model, f"{output}.bias", bias),
    ]
    return helper.make_node("Gemm", operands, [output])


def _scaler(model: ModelProto, node: NodeProto) -> list[NodeProto]:
    """Scaler: (x - offset) · scale. It is preprocessing, and stays as it is."""
    attributes, output = _attributes(node), node.output[0]
    offset = _constant(model, f"{output}.offset", np.asarray(attributes["offset"], np.float32))
    scale = _constant(model, f"{output}.scale", np.asarray(attributes["scale"], np.float32))
    return [
        helper.make_node("Sub", [node.input[0], offset], [f"{output}.centred"]),
        helper.make_node("Mul", [f"{output}.centred", scale], [output]),
    ]


def _same(_model: ModelProto, node: NodeProto) -> list[NodeProto]:
    """Normalizer of probabilities: they are normalised by the loss."""
    if _attributes(node).get("norm") != b"L1":
        raise ModelUnsuitable("Normalizer by another norm than L1")
    return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]


def _nothing(_model: ModelProto, _node: NodeProto) -> list[NodeProto]:
    """What only makes labels: if the result needs it after all, admission says that it is missing."""
    return []


_REPLACEMENTS: dict[str, _Replacement] = {
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Scaler": _scaler,
    "Normalizer": _same,
    "ZipMap": lambda _model, node: [helper.make_node("Identity", [node.input[0]], [node.output[0]])],
    "ArrayFeatureExtractor": _nothing,
    "LabelEncoder": _nothing,
}
