"""What the recipe's fields do to training; divergence, restarts and odd jobs that training lives through."""

import asyncio
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.prediction import Model
from runtime.training.errors import TrainingFailed
from runtime.training.layout import FlatLayout
from runtime.training.learner import Learner
from tests.training.jobs import Job, make_job, train
from tests.training.networks import Network, convolutional, mlp
from wasm_sandbox.errors import PlanRefused
from wasm_sandbox.graph import AdmittedGraph
from wasm_sandbox.recipe import (
    AdamW,
    Augmentations,
    Constant,
    EarlyStop,
    MeanSquaredError,
    Normalisation,
    Recipe,
    Sgd,
)

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 17, (120, 1, 8, 8)).astype(np.uint8)
CLASSES = (IMAGES.reshape(120, -1).mean(axis=1) > 8).astype(np.int64) + (IMAGES[:, 0, 0, 0] > 8)
ROWS = RNG.normal(size=(160, 6)).astype(np.float32)
VALUES = (ROWS @ RNG.normal(size=(6, 2))).astype(np.float32)


def image_job(**terms: Any) -> Job:
    return make_job(IMAGES, CLASSES, classes=3, rows=20, **terms)


def table_job(**terms: Any) -> Job:
    return make_job(ROWS, VALUES, rows=20, **terms)


EVERYTHING = Recipe(
    epochs=4,
    batch_size=24,
    accumulation=2,
    clip_norm=1.0,
    ema_decay=0.9,
    early_stop=EarlyStop(patience=50),
    augmentations=Augmentations(horizontal_flip=True, crop_padding=1, cutout=2, mixup_alpha=0.3),
    optimizer=AdamW(learning_rate=3e-3),
)


def dropping() -> AdmittedGraph:
    """Convolution, batch normalisation, dropout, dense."""
    net = Network([1, 8, 8], 2)
    x = net.add("Cast", "input", to=1)
    x = net.add("Relu", net.batch_norm(net.conv(x, "conv", 1, 8), "norm", 8))
    x = net.add("Dropout", net.add("Flatten", x), net.constant(np.float32(0.3)))
    net.dense(x, "last", 512, 3)
    return net.admitted((3,))


async def continued(job: Job, graph: AdmittedGraph, stop: int) -> bytes:
    """The model of one trainer that is replaced by a restored one before exchange `stop` (0: never)."""
    exchanges = job.spec.exchange.exchanges
    learner = Learner(graph, EVERYTHING, job.spec, index=0, trial=0)
    learner.initial()
    for exchange in range(exchanges):
        if exchange == stop and stop:
            saved = learner.state()
            learner = Learner(graph, EVERYTHING, job.spec, index=0, trial=0)
            learner.restore(saved)
        await learner.train(job.dataset(), exchange, exchanges)
        learner.write(learner.read())
        learner.report(exchange, learner.sums())
    return learner.export()


def test_the_same_job_gives_the_same_bytes_with_any_restart() -> None:
    job, graph = image_job(exchanges=5), dropping()
    models = {asyncio.run(continued(job, graph, stop)) for stop in (0, 0, 1, 3, 4)}
    assert len(models) == 1
    other = job._replace(spec=job.spec.model_copy(update={"seed": 8}))
    assert asyncio.run(continued(other, graph, 0)) not in models


def test_state_that_is_not_ours_is_refused_and_changes_nothing() -> None:
    job = image_job()
    learner = Learner(dropping(), EVERYTHING, job.spec, index=0, trial=0)
    learner.initial()
    saved, vector = learner.state(), learner.read()
    for damaged in (b"", saved[:-1], saved + b"\0", saved.replace(b"vector", b"victor")):
        with pytest.raises(TrainingFailed) as failed:
            learner.restore(damaged)
        assert failed.value.code == "training-state-invalid"
    np.testing.assert_array_equal(learner.read(), vector)


@pytest.mark.parametrize(
    "optimizer", [Sgd(learning_rate=100, momentum=0.9), AdamW(learning_rate=100, weight_decay=10)]
)
def test_divergence_is_told_and_the_schedule_goes_on(optimizer: Any) -> None:
    job = table_job(exchanges=6, trainers=2)
    recipe = Recipe(
        loss=MeanSquaredError(), epochs=60, batch_size=8, optimizer=optimizer, schedule=Constant()
    )
    learners, reports = train(job, mlp(6, 16, 2), recipe)
    assert reports[-1].diverged
    assert [report.exchange for report in reports] == list(range(6))
    assert all(np.isfinite(learner.read()).all() for learner in learners)


def test_values_that_overflow_the_loss_diverge_at_once() -> None:
    job = make_job(ROWS, np.full_like(VALUES, 3e38), rows=20, exchanges=2)
    learners, reports = train(job, mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), epochs=1))
    assert reports[-1].diverged
    fresh = Learner(mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), epochs=1), job.spec, index=0, trial=0)
    np.testing.assert_array_equal(learners[0].read(), fresh.initial())


def test_divergence_writes_no_warning(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    """The host reads the log."""
    test_values_that_overflow_the_loss_diverge_at_once()
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


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
    _, reports = train(job, mlp(6, 32, 2), recipe)
    losses = [report.validation_loss for report in reports if report.validation_loss is not None]
    assert len(reports) == 12
    assert reports[-1].steps < 200 * 12  # 96 rows to train on make 12 steps an epoch
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
    predicted = Model(learners[0].export(), job.spec).predict(x).argmax(axis=1)
    assert (predicted == CLASSES).mean() > 0.9


def test_negative_variances_from_outside_are_not_taken() -> None:
    job, graph = image_job(), convolutional(3)
    learner = Learner(graph, Recipe(), job.spec, index=0, trial=0)
    learner.write(np.full(learner.elements + 7, -1, np.float32))
    views = FlatLayout(graph.parameters).views(learner.read())
    assert (views["norm1.running_var"] == 0).all()
    assert (views["norm1.running_mean"] == -1).all()


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
    model = Model(learners[0].export(), job.spec)
    filled = np.where(np.isnan(x), np.float32(1000), x)
    np.testing.assert_array_equal(model.predict(x), model.predict(filled))


def test_uint8_images_are_normalised_by_channel_before_the_graph() -> None:
    job = image_job(exchanges=2)
    recipe = Recipe(epochs=1, normalise=Normalisation(mean=(8.0,), std=(5.0,)))
    learners, _ = train(job, convolutional(3), recipe)
    scores = Model(learners[0].export(), job.spec).predict(IMAGES)
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


def test_a_single_exchange_trains_and_measures() -> None:
    _, reports = train(image_job(exchanges=1), convolutional(3), Recipe(epochs=3))
    assert reports[0].train_loss is not None
    assert reports[0].validation_loss is not None


def test_a_trainer_without_chunks_takes_part() -> None:
    job = make_job(ROWS[:30], VALUES[:30], rows=20, trainers=3, exchanges=3)
    learners, reports = train(job, mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), epochs=2))
    assert reports[-1].validation_loss is not None
    assert np.isfinite(learners[2].read()).all()


def test_bad_models_and_rows_end_in_one_error() -> None:
    job = table_job()
    with pytest.raises(TrainingFailed) as failed:
        Model(b"not a model", job.spec)
    assert failed.value.code == "model-invalid"
    learners, _ = train(job, mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), epochs=1))
    model = Model(learners[0].export(), job.spec)
    wrong: NDArray[np.float32] = np.zeros((2, 5), np.float32)
    with pytest.raises(TrainingFailed):
        model.predict(wrong)
    assert model.predict(np.zeros((0, 6), np.float32)).shape == (0, 2)
