"""Each loss of the recipe: the ONNX form against NumPy in float64, and its gradient against differences."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.losses import TargetEncoder, loss_sum
from chiron.runtime.training.sessions import GradientSession
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.recipe import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Recipe,
)
from chiron.wire.contract import BuildRequest, InputType, Task
from tests.support.networks import mlp

ROWS, INPUTS, OUTPUTS = 6, 5, 3
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, INPUTS)).astype(np.float32)
CLASSES = RNG.integers(0, OUTPUTS, ROWS)
VALUES = RNG.normal(size=(ROWS, OUTPUTS)).astype(np.float32)
FLAGS = (VALUES > 0).astype(np.float32)


class Case:
    """A loss at a point of a small network's parameters."""

    def __init__(self, loss: Loss, y: NDArray[Any]) -> None:
        task = Task.CLASSIFICATION if y.dtype == np.int64 else Task.REGRESSION
        self.request = BuildRequest(
            task=task,
            input_shape=(INPUTS,),
            input_dtype=InputType.FLOAT32,
            target_shape=() if y.ndim == 1 else (OUTPUTS,),
            classes=OUTPUTS if y.ndim == 1 else 0,
            max_parameters=1000,
        )
        graph = mlp(INPUTS, 4, OUTPUTS)
        self.layout = FlatLayout(graph.parameters)
        self.vector = np.random.default_rng(1).normal(size=self.layout.elements).astype(np.float32)
        self.gradient = np.zeros_like(self.vector)
        recipe = Recipe(loss=loss)
        built = training_model(graph, recipe, self.request)
        self._session = GradientSession(built, self.layout, self.vector, self.gradient, 1)
        self._encoder = TargetEncoder(loss, self.request)
        self._y = y

    def run(self) -> tuple[float, NDArray[np.float32]]:
        return self._session.run(X, self._encoder.encode(self._encoder.dense(self._y)), {})


CASES = [
    (CrossEntropy(), CLASSES),
    (CrossEntropy(label_smoothing=0.2), CLASSES),
    (CrossEntropy(class_weights=(1.0, 3.0, 0.5), label_smoothing=0.1), CLASSES),
    (BinaryCrossEntropy(), CLASSES),
    (BinaryCrossEntropy(positive_weight=3.0, label_smoothing=0.1), FLAGS),
    (MeanSquaredError(), VALUES),
    (MeanAbsoluteError(), VALUES),
    (Huber(delta=0.7), VALUES),
]


def name_of(case: Any) -> str:
    return case.model_dump_json() if not isinstance(case, np.ndarray) else ""


@pytest.mark.parametrize(("loss", "y"), CASES, ids=name_of)
def test_gradient_is_the_slope_of_the_loss(loss: Loss, y: NDArray[Any]) -> None:
    case = Case(loss, y)
    case.run()
    analytic = case.gradient.copy()
    step = 1e-2
    for element in range(0, case.layout.elements, 3):
        kept = case.vector[element]
        losses = []
        for moved in (kept + step, kept - step):
            case.vector[element] = moved
            losses.append(case.run()[0])
        case.vector[element] = kept
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(analytic[element], abs=5e-3, rel=0.03)


@pytest.mark.parametrize(
    ("loss", "y"),
    [case for case in CASES if not getattr(case[0], "label_smoothing", 0)],
    ids=name_of,
)
def test_mean_of_the_loss_is_that_of_the_reference(loss: Loss, y: NDArray[Any]) -> None:
    value, outputs = Case(loss, y).run()
    assert value == pytest.approx(loss_sum(loss, outputs, y) / ROWS, rel=1e-5)


def test_smoothed_and_weighted_cross_entropy_by_hand() -> None:
    """sum_n sum_c w_c · q_nc · (−log p_nc) / sum_n w_yn, as PyTorch's CrossEntropyLoss documents it."""
    weights, smoothing = np.array([1.0, 3.0, 0.5]), 0.1
    value, outputs = Case(
        CrossEntropy(class_weights=tuple(weights), label_smoothing=smoothing), CLASSES
    ).run()
    scores = outputs.astype(np.float64)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    q = np.eye(OUTPUTS)[CLASSES] * (1 - smoothing) + smoothing / OUTPUTS
    assert value == pytest.approx(float(-(weights * q * log_p).sum() / weights[CLASSES].sum()), rel=1e-5)


def test_binary_cross_entropy_of_great_scores_stays_finite() -> None:
    case = Case(BinaryCrossEntropy(), CLASSES)
    case.vector *= 1e6
    value, outputs = case.run()
    assert np.abs(outputs).max() > 1e6
    assert np.isfinite(value)
    assert np.isfinite(case.gradient).all()
