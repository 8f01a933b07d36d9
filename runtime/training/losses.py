"""Losses: as ONNX nodes behind the graph's output, with the targets that they are fed, and in NumPy.

Every loss is `scale · Σ elementwise(output, target)`. The targets are dense: of a classification, a matrix
[n, classes] made here, in which label smoothing, class weights and mixup are already contained. So one
form of each loss covers them all, and the parts of an accumulated batch simply add up.

The losses in NumPy, in float64, are for validation; tests hold the ONNX ones against them. They have neither
label smoothing nor class weights: the validation loss compares models across recipes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper

from chiron.runtime.training.graphs import OUTPUT, OWN, constant
from chiron.runtime.training.masking import exp, kept, log1p
from chiron.wasm_sandbox.recipe import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanAbsoluteError
from chiron.wire.contract import BuildRequest, Task

TARGET, SCALE, LOSS = OWN + "target", OWN + "scale", OWN + "loss"


@dataclass(frozen=True)
class Targets:
    """One batch's targets: `values` as the loss takes them, and the `scale` that makes its sum a mean."""

    values: NDArray[np.float32]
    scale: NDArray[np.float32]
    """[]"""


def append_loss(graph: GraphProto, loss: Loss, request: BuildRequest) -> None:
    """Add the inputs `TARGET` [n, …] and `SCALE` [] and the output `LOSS` []."""
    shape = (request.classes,) if request.task is Task.CLASSIFICATION else request.target_shape
    graph.input.append(helper.make_tensor_value_info(TARGET, TensorProto.FLOAT, ["N", *shape]))
    graph.input.append(helper.make_tensor_value_info(SCALE, TensorProto.FLOAT, []))
    nodes = _Nodes(graph)
    if isinstance(loss, CrossEntropy):
        each = nodes.add("Mul", nodes.add("LogSoftmax", OUTPUT, axis=1), TARGET)
        each = nodes.add("Neg", each)
    elif isinstance(loss, BinaryCrossEntropy):
        each = _binary_cross_entropy(nodes, loss.positive_weight)
    else:
        difference = nodes.add("Sub", OUTPUT, TARGET)
        if isinstance(loss, Huber):
            each = _huber(nodes, difference, loss.delta)
        elif isinstance(loss, MeanAbsoluteError):
            each = nodes.add("Abs", difference)
        else:
            each = nodes.add("Mul", difference, difference)
    total = nodes.add("ReduceSum", each, keepdims=0)
    graph.node.append(helper.make_node("Mul", [total, SCALE], [LOSS]))
    graph.output.insert(0, helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, []))


class _Nodes:
    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self._count = 0

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        output = f"{OWN}loss{self._count}"
        self._count += 1
        self.graph.node.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def number(self, name: str, value: float) -> str:
        return constant(self.graph, name, np.asarray(value, np.float32))


def _binary_cross_entropy(nodes: _Nodes, positive_weight: float) -> str:
    """(1 − t)·z + (1 + (w − 1)·t)·softplus(−z), which overflows nowhere: softplus(−z) is
    max(−z, 0) + log(1 + exp(−|z|))."""
    one = nodes.number("one", 1)
    decay = nodes.add("Exp", nodes.add("Neg", nodes.add("Abs", OUTPUT)))
    softplus = nodes.add(
        "Add", nodes.add("Relu", nodes.add("Neg", OUTPUT)), nodes.add("Log", nodes.add("Add", decay, one))
    )
    weight = nodes.add("Add", nodes.add("Mul", TARGET, nodes.number("extra", positive_weight - 1)), one)
    linear = nodes.add("Mul", nodes.add("Sub", one, TARGET), OUTPUT)
    return nodes.add("Add", linear, nodes.add("Mul", weight, softplus))


def _huber(nodes: _Nodes, difference: str, delta: float) -> str:
    """q·(|d| − q/2) with q = min(|d|, δ)."""
    distance = nodes.add("Abs", difference)
    bounded = nodes.add("Min", distance, nodes.number("delta", delta))
    half = nodes.add("Mul", bounded, nodes.number("half", 0.5))
    return nodes.add("Mul", bounded, nodes.add("Sub", distance, half))


class TargetEncoder:
    """Makes the targets of a recipe's loss."""

    def __init__(self, loss: Loss, request: BuildRequest) -> None:
        self._loss = loss
        self._classes = request.classes
        self._weights: NDArray[np.float32] | None = None
        if isinstance(loss, CrossEntropy) and loss.class_weights is not None:
            self._weights = np.asarray(loss.class_weights, np.float32)

    def dense(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """Class indices [n] one-hot [n, classes]; a copy of values."""
        if not self._classes:
            return np.array(y, np.float32)
        return one_hot(y, self._classes).astype(np.float32)

    def encode(self, dense: NDArray[np.float32]) -> Targets:
        """Smooth and weight `dense` [n, …], which is used up, and find the scale of the batch's mean.

        Class weights as PyTorch has them: the mean is divided by the weights of the true classes.
        """
        smoothing = getattr(self._loss, "label_smoothing", 0.0)
        if isinstance(self._loss, CrossEntropy):
            total = np.float64(len(dense) if self._weights is None else (dense @ self._weights).sum())
            if smoothing:
                dense *= np.float32(1 - smoothing)
                dense += np.float32(smoothing / self._classes)
            if self._weights is not None:
                dense *= self._weights
            return Targets(dense, np.asarray(1 / np.maximum(total, 1e-30), np.float32))
        if smoothing:
            dense *= np.float32(1 - smoothing)
            dense += np.float32(smoothing / 2)
        return Targets(dense, np.asarray(1 / max(dense.size, 1), np.float32))


def one_hot(y: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Classes [n] as a mask [n, classes], made by comparing: no class is an address."""
    mask: NDArray[np.bool_] = np.asarray(y)[:, None] == np.arange(classes)
    return mask


def loss_sum(loss: Loss, outputs: NDArray[np.float32], y: NDArray[Any]) -> float:
    """Sum over examples of the loss of `outputs` [n, …] against classes [n] or values [n, …].

    An example's loss is the mean over its elements. inf or NaN where the outputs are. What is computed, and
    where, depends on shapes alone.
    """
    z = outputs.astype(np.float64)
    if isinstance(loss, CrossEntropy):
        return float(-kept(one_hot(y, z.shape[1]), _log_softmax(z)).sum(axis=1).sum())
    if isinstance(loss, BinaryCrossEntropy):
        t = (y if y.shape == z.shape else one_hot(y, z.shape[1])).astype(np.float64)
        softplus = np.maximum(-z, 0) + log1p(exp(-np.abs(z)))
        return _sum_of_means((1 - t) * z + (1 + (loss.positive_weight - 1) * t) * softplus)
    difference = z - y
    if isinstance(loss, MeanAbsoluteError):
        return _sum_of_means(np.abs(difference))
    if isinstance(loss, Huber):
        bounded = np.minimum(np.abs(difference), loss.delta)
        return _sum_of_means(bounded * (np.abs(difference) - bounded / 2))
    return _sum_of_means(np.square(difference))


def _log_softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    # NumPy stops at the first NaN when it looks for the highest.
    shifted = z - kept(z == z, z).max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - log1p(exp(shifted).sum(axis=1, keepdims=True) - 1)
    return logs


def _sum_of_means(each: NDArray[np.float64]) -> float:
    return float(each.sum() / max(each.size, 1) * len(each))
