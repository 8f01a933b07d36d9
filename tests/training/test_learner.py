"""What a learner does from the first vector to the exported model."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits

from chiron.runtime.training.sessions import ExportedModel
from chiron.wasm_sandbox.recipe import AdamW, MeanSquaredError, Recipe
from tests.support.jobs import make_job, train
from tests.support.networks import convolutional, mlp

HELD_OUT = 300


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order].reshape(-1, 1, 8, 8).astype(np.uint8), classes[order].astype(np.int64)


@pytest.mark.parametrize("trainers", [1, 2, 3])
def test_learns_digits_with_any_number_of_trainers(
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]], trainers: int
) -> None:
    x, y = digits
    job = make_job(x[HELD_OUT:], y[HELD_OUT:], classes=10, trainers=trainers, exchanges=7)
    recipe = Recipe(epochs=6, batch_size=48, optimizer=AdamW(learning_rate=3e-3))
    learners, reports = train(job, convolutional(), recipe)
    scores = ExportedModel(learners[0].export(), job.spec).predict(x[:HELD_OUT])
    assert (scores.argmax(axis=1) == y[:HELD_OUT]).mean() > 0.95
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert reports[-1].validation_accuracy is not None
    assert reports[-1].validation_accuracy > 0.93
    assert reports[-1].train_loss is None
    assert reports[-2].train_loss is not None
    assert reports[-2].train_loss < 0.2


def test_learns_a_regression_of_one_value() -> None:
    x, y = load_diabetes(return_X_y=True)
    x, y = (x * 10).astype(np.float32), (y / 100).astype(np.float32)
    job = make_job(x, y, rows=50, validation_percent=20)
    recipe = Recipe(
        loss=MeanSquaredError(),
        epochs=30,
        batch_size=32,
        metrics=("r2", "rmse"),
        optimizer=AdamW(learning_rate=3e-3),
    )
    learners, reports = train(job, mlp(10, 32, 1, output_shape=()), recipe)
    assert reports[-1].validation_r2 is not None
    assert reports[-1].validation_r2 > 0.3
    predicted = ExportedModel(learners[0].export(), job.spec).predict(x)
    assert predicted.shape == (len(x),)
    assert np.corrcoef(predicted, y)[0, 1] > 0.65
