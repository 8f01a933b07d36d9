"""The losses in NumPy, in float64: for validation, and as what the ONNX ones are tested against.

The validation loss has neither label smoothing nor class weights: it compares models across recipes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.wasm_sandbox.recipe import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanAbsoluteError


def loss_sum(loss: Loss, outputs: NDArray[np.float32], y: NDArray[Any]) -> float:
    """Sum over examples of the loss of `outputs` [n, …] against classes [n] or values [n, …].

    An example's loss is the mean over its elements. inf or NaN where the outputs are.
    """
    z = outputs.astype(np.float64)
    if isinstance(loss, CrossEntropy):
        return float(-_log_softmax(z)[np.arange(len(y)), y].sum())
    if isinstance(loss, BinaryCrossEntropy):
        t = y.astype(np.float64) if y.shape == z.shape else np.eye(z.shape[1])[y]
        return _sum_of_means((1 - t) * z + (1 + (loss.positive_weight - 1) * t) * np.logaddexp(0, -z))
    difference = z - y
    if isinstance(loss, MeanAbsoluteError):
        return _sum_of_means(np.abs(difference))
    if isinstance(loss, Huber):
        bounded = np.minimum(np.abs(difference), loss.delta)
        return _sum_of_means(bounded * (np.abs(difference) - bounded / 2))
    return _sum_of_means(np.square(difference))


def _log_softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = z - z.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _sum_of_means(each: NDArray[np.float64]) -> float:
    return float(each.sum() / max(each.size, 1) * len(each))
