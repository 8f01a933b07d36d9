"""What the recipe's fields do to training."""

from typing import Any

import numpy as np
import pytest

from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.learner import Learner
from chiron.runtime.training.sessions import ExportedModel
from chiron.wasm_sandbox.errors import PlanRefused
from chiron.wasm_sandbox.recipe import (
    AdamW,
    Constant,
    EarlyStop,
    MeanSquaredError,
    Normalisation,
    Recipe,
    Sgd,
)
from tests.support.jobs import make_job, train
from tests.support.networks import Network, convolutional, mlp
from tests.training.samples import CLASSES, IMAGES, ROWS, VALUES, image_job, table_job


def test_accumulated_parts_are_the_whole_batch() -> None:
    """Without batch normalisation, whose statistics are each part's own."""
    job = table_job(exchanges=2)
    models = [
        train(
            job, mlp(6, 16, 2), Recipe(loss=MeanSquaredError(), epochs=3, batch_size=30, accumulation=parts)
        )[0][0].read()
        for parts in (1, 4)
    ]
    np.testing.assert_allclose(models[0], models[1], rtol=1e-3, atol=1e-5)


def test_trainers_that_exchange_every_step_are_one_large_batch() -> None:
    """The average of the shares' gradients is the batch's, so plain SGD is the same for any number."""
    x, y = ROWS[:120], VALUES[:120]
    recipe = Recipe(
        loss=MeanSquaredError(),
        steps=3,
        batch_size=120,
        optimizer=Sgd(learning_rate=0.05, momentum=0),
        schedule=Constant(),
    )
    vectors = []
    for trainers in (1, 2, 3):
        job = make_job(x, y, rows=20, trainers=trainers, exchanges=4, validation_percent=0)
        vectors.append(train(job, mlp(6, 8, 2), recipe)[0][0].read())
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(vectors[2], vectors[0], rtol=1e-3, atol=1e-6)


def test_frozen_parameters_keep_their_values() -> None:
    job, graph = table_job(exchanges=3), mlp(6, 16, 2)
    recipe = Recipe(loss=MeanSquaredError(), epochs=3, frozen=("first.*",), optimizer=AdamW(weight_decay=0.5))
    learners, _ = train(job, graph, recipe)
    start = Learner(graph, recipe, job.spec, index=0, trial=0).initial()
    views, before = (FlatLayout(graph.parameters).views(vector) for vector in (learners[0].read(), start))
    for name in ("first.weight", "first.bias"):
        np.testing.assert_array_equal(views[name], before[name])
    assert np.abs(views["second.weight"] - before["second.weight"]).max() > 0


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(TrainingFailed) as failed:
        Learner(
            mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), frozen=("*",)), table_job().spec, index=0, trial=0
        )
    assert failed.value.code == "nothing-to-train"


def test_a_recipe_for_another_task_is_refused() -> None:
    with pytest.raises(PlanRefused) as refused:
        Learner(mlp(6, 4, 2), Recipe(), table_job().spec, index=0, trial=0)
    assert refused.value.detail.startswith("loss: ")


def test_weight_decay_spares_what_the_recipe_says() -> None:
    """With a learning rate next to nothing for the gradient, only decay is left."""
    job, graph = table_job(exchanges=2), mlp(6, 16, 2)
    layout = FlatLayout(graph.parameters)

    def shrinking(**terms: Any) -> dict[str, float]:
        optimizer = Sgd(learning_rate=1e-3, momentum=0, weight_decay=10)
        recipe = Recipe(loss=MeanSquaredError(), steps=5, clip_norm=1e-9, optimizer=optimizer, **terms)
        learners, _ = train(job, graph, recipe)
        start = layout.views(Learner(graph, recipe, job.spec, index=0, trial=0).initial())
        end = layout.views(learners[0].read())
        return {name: float(np.abs(end[name] - start[name]).max()) for name in end}

    # Clipping bounds the decayed gradient too for SGD's own rule; decay is added after it.
    plain = shrinking()
    assert plain["first.weight"] > 1e-3
    spared = shrinking(no_decay=("first.*",))
    assert spared["first.weight"] < 1e-6
    assert spared["second.weight"] > 1e-3


def test_moving_average_is_the_model() -> None:
    job, graph = image_job(exchanges=3), convolutional(3)
    plain = Recipe(epochs=2, batch_size=20, optimizer=AdamW(learning_rate=1e-2))
    averaged = plain.model_copy(update={"ema_decay": 0.99})
    ends = [train(job, graph, recipe)[0][0].read() for recipe in (plain, averaged)]
    start = Learner(graph, plain, job.spec, index=0, trial=0).initial()
    assert np.linalg.norm(ends[1] - start) < np.linalg.norm(ends[0] - start)
    assert np.linalg.norm(ends[1] - ends[0]) > 0


def test_early_stop_goes_back_to_the_best_and_reports_on() -> None:
    job = table_job(exchanges=12, validation_percent=40)
    recipe = Recipe(
        loss=MeanSquaredError(),
        epochs=200,
        batch_size=8,
        optimizer=Sgd(learning_rate=0.02, momentum=0.95),
        schedule=Constant(),
        early_stop=EarlyStop(patience=1, minimum_improvement=0.5),
    )
    learners, reports = train(job, mlp(6, 32, 2), recipe)
    losses = [report.validation_loss for report in reports if report.validation_loss is not None]
    assert len(reports) == 12
    assert learners[0].steps < 200 * 12  # 96 rows to train on make 12 steps an epoch
    assert reports[-2].train_loss is None
    assert losses[-1] == losses[-2]
    assert losses[-1] <= min(losses) + 0.5


def test_batch_norm_statistics_are_merged_and_used() -> None:
    x = IMAGES.copy()
    job = make_job(x, CLASSES, classes=3, rows=20, trainers=2, exchanges=5, validation_percent=0)
    graph = convolutional(3)
    learners, _ = train(job, graph, Recipe(epochs=60, batch_size=40))
    views = [FlatLayout(graph.parameters).views(learner.read()) for learner in learners]
    np.testing.assert_array_equal(views[0]["norm1.running_mean"], views[1]["norm1.running_mean"])
    assert (views[0]["norm1.running_var"] >= 0).all()
    assert np.abs(views[0]["norm1.running_mean"]).max() > 0.01
    predicted = ExportedModel(learners[0].export(), job.spec).predict(x).argmax(axis=1)
    assert (predicted == CLASSES).mean() > 0.9


def test_missing_values_and_normalisation_are_part_of_the_model() -> None:
    x = ROWS * 100 + 1000
    x[::3, 2] = np.nan
    job = make_job(x, VALUES, rows=20, exchanges=4)
    recipe = Recipe(
        loss=MeanSquaredError(),
        epochs=60,
        batch_size=16,
        optimizer=AdamW(learning_rate=1e-2),
        fill_missing=(1000.0,) * 6,
        normalise=Normalisation(mean=(1000.0,) * 6, std=(100.0,) * 6),
        metrics=("r2",),
    )
    learners, reports = train(job, mlp(6, 32, 2), recipe)
    assert not reports[-1].diverged
    assert reports[-1].validation_r2 is not None
    assert reports[-1].validation_r2 > 0.8
    model = ExportedModel(learners[0].export(), job.spec)
    filled = np.where(np.isnan(x), np.float32(1000), x)
    np.testing.assert_array_equal(model.predict(x), model.predict(filled))


def test_uint8_images_are_normalised_by_channel_before_the_graph() -> None:
    job = image_job(exchanges=2)
    recipe = Recipe(epochs=1, normalise=Normalisation(mean=(8.0,), std=(5.0,)))
    learners, _ = train(job, convolutional(3), recipe)
    scores = ExportedModel(learners[0].export(), job.spec).predict(IMAGES)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_token_sequences_are_embedded() -> None:
    """The class is whether a token occurs: learnt from an embedding over uint8 tokens."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 20, (240, 12)).astype(np.uint8)
    classes = (tokens == 7).any(axis=1).astype(np.int64)
    net = Network([12], 2)
    table = net.normal("table", 20, 8, scale=0.5)
    vectors = net.add("Gather", table, net.add("Cast", "input", to=7))
    mean = net.add("ReduceMean", vectors, axes=[1], keepdims=0)
    net.dense(net.add("Relu", net.dense(mean, "first", 8, 16)), "last", 16, 2)
    job = make_job(tokens, classes, classes=2, rows=30, exchanges=5, validation_percent=20)
    _, reports = train(
        job,
        net.admitted((2,)),
        Recipe(
            epochs=60, batch_size=16, optimizer=AdamW(learning_rate=1e-2), metrics=("auc", "f1", "accuracy")
        ),
    )
    assert reports[-1].validation_auc is not None
    assert reports[-1].validation_auc > 0.95
    assert reports[-1].validation_f1 is not None
    assert reports[-1].validation_f1 > 0.85
