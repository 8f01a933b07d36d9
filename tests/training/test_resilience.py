"""Restarts, divergence and odd jobs, which training lives through."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.learner import Learner
from chiron.runtime.training.sessions import ExportedModel
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import (
    AdamW,
    Augmentations,
    Constant,
    EarlyStop,
    MeanSquaredError,
    Recipe,
    Sgd,
)
from tests.support.jobs import Job, learn, make_job, train
from tests.support.networks import Network, convolutional, mlp
from tests.training.samples import ROWS, VALUES, image_job, table_job

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
        await learn(learner, job.dataset(), exchange, exchanges)
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


def test_negative_variances_from_outside_are_not_taken() -> None:
    job, graph = image_job(), convolutional(3)
    learner = Learner(graph, Recipe(), job.spec, index=0, trial=0)
    learner.write(np.full(learner.elements + 7, -1, np.float32))
    views = FlatLayout(graph.parameters).views(learner.read())
    assert (views["norm1.running_var"] == 0).all()
    assert (views["norm1.running_mean"] == -1).all()


def test_a_single_exchange_trains_and_measures() -> None:
    _, reports = train(image_job(exchanges=1), convolutional(3), Recipe(epochs=3))
    assert reports[0].train_loss is not None
    assert reports[0].validation_loss is not None


def test_a_trainer_without_chunks_takes_part() -> None:
    job = make_job(ROWS[:30], VALUES[:30], rows=20, trainers=3, exchanges=3)
    learners, reports = train(job, mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), epochs=2))
    assert reports[-1].validation_loss is not None
    assert np.isfinite(learners[2].read()).all()


def test_a_batch_that_does_not_fit_in_memory_is_refused_before_data_is_read() -> None:
    job = table_job()
    heavy = replace(mlp(6, 4, 2), activation_bytes_per_example=256 * 2**20)
    recipe = Recipe(loss=MeanSquaredError(), batch_size=64)
    with pytest.raises(TrainingFailed) as failed:
        Learner(heavy, recipe, job.spec, index=0, trial=0)
    assert failed.value.code == "batch-exceeds-memory"
    Learner(heavy, recipe.model_copy(update={"accumulation": 16}), job.spec, index=0, trial=0)


def test_bad_models_and_rows_end_in_one_error() -> None:
    job = table_job()
    with pytest.raises(TrainingFailed) as failed:
        ExportedModel(b"not a model", job.spec)
    assert failed.value.code == "model-invalid"
    learners, _ = train(job, mlp(6, 4, 2), Recipe(loss=MeanSquaredError(), epochs=1))
    model = ExportedModel(learners[0].export(), job.spec)
    wrong: NDArray[np.float32] = np.zeros((2, 5), np.float32)
    with pytest.raises(TrainingFailed):
        model.predict(wrong)
    assert model.predict(np.zeros((0, 6), np.float32)).shape == (0, 2)
