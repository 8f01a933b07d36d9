"""A run takes part in every exchange, whatever happens inside it; only the host's own faults end it."""

import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from chiron.ps.client import Merged
from chiron.runtime.datasets import ChunkForm, EncryptedDataset, Examples
from chiron.runtime.datasets.chunks import associated_data
from chiron.runtime.engine.supply import Engines
from chiron.runtime.errors import InputCorrupted
from chiron.runtime.roles.plan import Plan, read_plan
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing.stream import seal_chunk
from chiron.wire.encoding import sha256_hex
from chiron.wire.jobs import IDLE, SUMS
from tests.support import graphs
from tests.support.jobs import KEY, Job, make_job

EXCHANGES = 3


@pytest.fixture
def job() -> Job:
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 4)).astype(np.float32)
    return make_job(x, (x.sum(axis=1) > 0).astype(np.int64), classes=2, rows=32, exchanges=EXCHANGES)


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    supply = Engines()
    yield supply
    supply.end()


def plan(job: Job, *, learning_rate: float = 0.01) -> Plan:
    recipe = {"epochs": 2, "batch_size": 16, "optimizer": {"kind": "adamw", "learning_rate": learning_rate}}
    graph = graphs.linear((4,), TensorProto.FLOAT, classes=2)
    return read_plan(job.spec, 0, graph, json.dumps(recipe).encode())


def merged(exchange: int, vector: NDArray[np.float32], sums: NDArray[np.float64]) -> Merged:
    return Merged(vector.copy(), sums.copy(), exchange=exchange, excluded=0, set_aside=False)


async def run_schedule(run: TrialRun, dataset: EncryptedDataset) -> None:
    """All exchanges of a job of one trainer: what it pushes is what is merged."""
    for exchange in range(EXCHANGES):
        await run.train(dataset, exchange, EXCHANGES)
        vector, sums = run.pushed()
        await run.take(exchange, merged(exchange, vector, sums))


async def test_a_run_with_a_plan_learns_and_exports(job: Job, engines: Engines) -> None:
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    await run.adopt(run.pushed()[0].copy())
    await run_schedule(run, job.dataset())
    assert run.usable
    assert run.report.validation_loss is not None
    assert await run.export()


async def test_a_run_without_a_plan_pushes_zeros_and_says_so_in_the_sums(job: Job, engines: Engines) -> None:
    run = TrialRun(job.spec, 0, 0, engines)
    await run_schedule(run, job.dataset())
    vector, sums = run.pushed()
    assert vector.shape == (job.spec.exchange.parameters,)
    assert not vector.any()
    assert sums.shape == (SUMS,)
    assert sums[IDLE] == 1
    assert run.failure == "no-plan"
    assert not run.usable
    assert await run.export() == b""


async def test_idle_and_working_runs_fetch_the_same_chunks_in_the_same_order(
    job: Job, engines: Engines
) -> None:
    fetched: dict[str, list[int]] = {"working": [], "idle": []}
    working, idle = TrialRun(job.spec, 0, 0, engines), TrialRun(job.spec, 0, 0, engines)
    await working.begin(plan(job))
    await run_schedule(working, job.dataset(fetched["working"]))
    await run_schedule(idle, job.dataset(fetched["idle"]))
    assert fetched["working"] == fetched["idle"] != []


async def test_a_plan_that_cannot_be_trained_makes_the_run_idle_with_a_code(
    job: Job, engines: Engines
) -> None:
    run = TrialRun(job.spec, 0, 0, engines)
    frozen = json.dumps({"epochs": 1, "frozen": ["*"]}).encode()
    await run.begin(read_plan(job.spec, 0, plan(job).graph, frozen))
    assert run.failure == "nothing-to-train"
    await run_schedule(run, job.dataset())
    assert not run.usable
    assert await run.export() == b""


async def test_another_trainers_idleness_makes_the_result_unusable_for_everybody(
    job: Job, engines: Engines
) -> None:
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    vector, sums = run.pushed()
    sums = sums.copy()
    sums[IDLE] = 1
    await run.take(0, merged(0, vector, sums))
    assert run.failure == "peer-idle"
    assert not run.usable


async def test_divergence_is_reported_and_does_not_end_the_schedule(job: Job, engines: Engines) -> None:
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job, learning_rate=9.0))
    await run.adopt(np.full(job.spec.exchange.parameters, 3e38, np.float32))
    await run_schedule(run, job.dataset())
    vector, _ = run.pushed()
    assert np.isfinite(vector).all()
    assert run.report.diverged
    assert await run.export() == b""


@pytest.mark.parametrize("planned", [True, False])
async def test_a_chunk_that_is_not_the_owners_is_the_hosts_fault_and_is_raised(
    job: Job, planned: bool, engines: Engines
) -> None:
    async def fetch(number: int) -> bytes:
        return bytes(job.spec.dataset.chunk_ciphertext_bytes)

    run = TrialRun(job.spec, 0, 0, engines)
    if planned:
        await run.begin(plan(job))
    with pytest.raises(InputCorrupted) as refusal:
        await run.train(EncryptedDataset(job.spec.dataset, KEY, fetch), 0, EXCHANGES)
    assert refusal.value.code == "chunk-altered"


async def test_what_fails_midway_pushes_the_vector_as_it_was_adopted(job: Job, engines: Engines) -> None:
    fetched: list[int] = []
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    adopted = np.full(job.spec.exchange.parameters, 0.5, np.float32)
    await run.adopt(adopted)
    run.pushed()[0][:] = np.nan  # What an engine could have made of it.
    engines.end()
    await run.train(job.dataset(fetched), 0, EXCHANGES)
    assert run.failure == "training-failed"
    assert fetched == [0, 1, 2]
    vector, sums = run.pushed()
    np.testing.assert_array_equal(vector, adopted)
    assert sums[IDLE] == 1


async def test_a_chunk_that_its_owner_spoilt_makes_the_run_idle_and_the_others_are_read(
    engines: Engines,
) -> None:
    x, y = np.zeros((96, 4), np.float32), np.arange(96) % 2
    spoilt = make_job(x, y, classes=2, rows=32, exchanges=EXCHANGES)
    manifest = spoilt.spec.dataset
    form = ChunkForm.of(manifest)
    plaintext = bytearray(form.encode(Examples(x[:32], y[:32])))
    plaintext[8 + int.from_bytes(plaintext[:8], "little")] = 255  # A class that there is not.
    bound = associated_data(manifest.dataset_id, manifest.header_digest())
    chunk = seal_chunk(KEY, 1, bytes(plaintext), last=False, associated_data=bound)
    digests = (manifest.chunk_sha256[0], sha256_hex(chunk), manifest.chunk_sha256[2])
    dataset = manifest.model_copy(update={"chunk_sha256": digests})
    job = Job(
        spoilt.spec.model_copy(update={"dataset": dataset}), [spoilt.chunks[0], chunk, spoilt.chunks[2]]
    )
    fetched: list[int] = []
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    await run_schedule(run, job.dataset(fetched))
    assert run.failure == "chunk-malformed"
    assert fetched == [0, 1, 2]
