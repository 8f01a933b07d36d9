"""A run takes part in every exchange, whatever happens inside it; only the host's own faults end it."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from chiron.ps.client import Merged
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.errors import InputCorrupted
from chiron.runtime.roles.plan import AdmittedPlan
from chiron.runtime.roles.trial_run import TrialRun
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.jobs import IDLE, SUMS
from tests.support.jobs import KEY, Job, make_job
from tests.support.networks import Network

EXCHANGES = 3


@pytest.fixture
def job() -> Job:
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 4)).astype(np.float32)
    return make_job(x, (x.sum(axis=1) > 0).astype(np.int64), classes=2, rows=32, exchanges=EXCHANGES)


def plan(*, learning_rate: float = 0.01) -> AdmittedPlan:
    network = Network([4])
    network.dense("input", "dense", 4, 2)
    optimizer = {"kind": "adamw", "learning_rate": learning_rate}
    recipe = Recipe.model_validate({"epochs": 2, "batch_size": 16, "optimizer": optimizer})
    return AdmittedPlan(network.admitted([2]), recipe, published=b"")


def merged(exchange: int, vector: NDArray[np.float32], sums: NDArray[np.float64]) -> Merged:
    return Merged(vector.copy(), sums.copy(), exchange=exchange, excluded=0, set_aside=False)


async def run_schedule(run: TrialRun, dataset: EncryptedDataset) -> None:
    """All exchanges of a job of one trainer: what it pushes is what is merged."""
    for exchange in range(EXCHANGES):
        await run.train(dataset, exchange, EXCHANGES)
        vector, sums = run.pushed()
        await run.take(exchange, merged(exchange, vector, sums))


async def test_a_run_with_a_plan_learns_and_exports(job: Job) -> None:
    run = TrialRun(job.spec, trial=0, index=0)
    await run.begin(plan())
    await run.adopt(run.pushed()[0].copy())
    await run_schedule(run, job.dataset())
    assert run.usable
    assert run.report.validation_loss is not None
    assert run.export()


async def test_a_run_without_a_plan_pushes_zeros_and_says_so_in_the_sums(job: Job) -> None:
    run = TrialRun(job.spec, trial=0, index=0)
    await run_schedule(run, job.dataset())
    vector, sums = run.pushed()
    assert vector.shape == (job.spec.exchange.parameters,)
    assert not vector.any()
    assert sums.shape == (SUMS,)
    assert sums[IDLE] == 1
    assert run.failure == "no-plan"
    assert not run.usable
    assert run.export() == b""


async def test_idle_and_working_runs_fetch_the_same_chunks_in_the_same_order(job: Job) -> None:
    fetched: dict[str, list[int]] = {"working": [], "idle": []}
    working, idle = TrialRun(job.spec, trial=0, index=0), TrialRun(job.spec, trial=0, index=0)
    await working.begin(plan())
    await run_schedule(working, job.dataset(fetched["working"]))
    await run_schedule(idle, job.dataset(fetched["idle"]))
    assert fetched["working"] == fetched["idle"] != []


async def test_a_plan_that_cannot_be_trained_makes_the_run_idle_with_a_code(job: Job) -> None:
    run = TrialRun(job.spec, trial=0, index=0)
    await run.begin(plan()._replace(recipe=Recipe(epochs=1, batch_size=16, loss={"kind": "mse"})))
    assert run.failure is not None
    await run_schedule(run, job.dataset())
    assert not run.usable
    assert run.export() == b""


async def test_another_trainers_idleness_makes_the_result_unusable_for_everybody(job: Job) -> None:
    run = TrialRun(job.spec, trial=0, index=0)
    await run.begin(plan())
    vector, sums = run.pushed()
    sums = sums.copy()
    sums[IDLE] = 1
    await run.take(0, merged(0, vector, sums))
    assert run.failure == "peer-idle"
    assert not run.usable


async def test_divergence_is_reported_and_does_not_end_the_schedule(job: Job) -> None:
    run = TrialRun(job.spec, trial=0, index=0)
    await run.begin(plan(learning_rate=9.0))
    await run.adopt(np.full(job.spec.exchange.parameters, 3e38, np.float32))
    await run_schedule(run, job.dataset())
    vector, _ = run.pushed()
    assert np.isfinite(vector).all()
    assert run.report.diverged
    assert run.export() == b""


@pytest.mark.parametrize("planned", [True, False])
async def test_a_chunk_that_is_not_the_owners_is_the_hosts_fault_and_is_raised(
    job: Job, planned: bool
) -> None:
    async def fetch(number: int) -> bytes:
        return bytes(job.spec.dataset.chunk_ciphertext_bytes)

    run = TrialRun(job.spec, trial=0, index=0)
    if planned:
        await run.begin(plan())
    with pytest.raises(InputCorrupted) as refusal:
        await run.train(EncryptedDataset(job.spec.dataset, KEY, fetch), 0, EXCHANGES)
    assert refusal.value.code == "chunk-altered"


async def test_what_fails_midway_pushes_the_vector_as_it_was_adopted(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrialRun(job.spec, trial=0, index=0)
    await run.begin(plan())
    adopted = np.full(job.spec.exchange.parameters, 0.5, np.float32)
    await run.adopt(adopted)

    async def train_and_fail(*_: object) -> None:
        run.pushed()[0][:] = np.nan
        raise RuntimeError

    monkeypatch.setattr("chiron.runtime.training.learner.Learner.train", train_and_fail)
    await run.train(job.dataset(), 0, EXCHANGES)
    assert run.failure == "training-failed"
    vector, sums = run.pushed()
    np.testing.assert_array_equal(vector, adopted)
    assert sums[IDLE] == 1


async def test_a_run_holds_the_vector_once_beside_its_gradient() -> None:
    """What it adopts stays where it is, and what it pushes is where it trains."""
    width, exchanges = 700, 2
    network = Network([width])
    network.dense(network.dense("input", "first", width, width), "last", width, 2)
    x = np.zeros((8, width), np.float32)
    parameters = width * width + width + 2 * width + 2
    wide = make_job(x, np.arange(8) % 2, classes=2, rows=8, exchanges=exchanges, parameters=parameters)
    recipe = Recipe.model_validate({"steps": 2, "optimizer": {"kind": "sgd", "momentum": 0}})
    base = np.zeros(parameters, np.float32)
    tracemalloc.start()
    try:
        run = TrialRun(wide.spec, trial=0, index=0)
        await run.begin(AdmittedPlan(network.admitted([2]), recipe, published=b""))
        base[:] = run.pushed()[0]
        await run.adopt(base)
        await run.train(wide.dataset(), 0, exchanges)
        held = tracemalloc.get_traced_memory()[0] / base.nbytes
    finally:
        tracemalloc.stop()
    assert held < 2.5
