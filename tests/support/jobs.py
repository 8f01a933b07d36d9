"""Encrypted datasets and job specs over arrays, and a job's exchanges without a network."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import ChunkForm, DatasetWriter, EncryptedDataset, Examples
from chiron.runtime.training.learner import Learner
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import InputType, Task
from chiron.wire.jobs import JobSpec
from chiron.wire.reports import TrainingReport
from tests.support.specs import job_spec

KEY = bytes(range(32))


class Job(NamedTuple):
    """A spec, and the ciphertext of its dataset."""

    spec: JobSpec
    chunks: list[bytes]

    def dataset(self, fetched: list[int] | None = None) -> EncryptedDataset:
        """The dataset as one trainer opens it; `fetched` collects what it reads."""

        async def fetch(number: int) -> bytes:
            if fetched is not None:
                fetched.append(number)
            return self.chunks[number]

        return EncryptedDataset(self.spec.dataset, KEY, fetch)


def make_job(
    x: NDArray[Any], y: NDArray[Any], *, classes: int = 0, rows: int = 64, trainers: int = 1, **changes: Any
) -> Job:
    """A job over these examples in chunks of `rows`."""
    task = Task.CLASSIFICATION if classes else Task.REGRESSION
    form = ChunkForm(task, x.shape[1:], InputType(str(x.dtype)), y.shape[1:], classes, rows)
    writer = DatasetWriter(form, "ab" * 16, KEY)
    starts = range(0, len(x), rows)
    chunks = [
        writer.seal(Examples(x[at : at + rows], y[at : at + rows]), last=at == starts[-1]) for at in starts
    ]
    parameters = changes.pop("parameters", 100_000)
    exchanges = changes.pop("exchanges", 4)
    spec = job_spec(
        parameters=parameters,
        dataset=writer.manifest(),
        exchange={"trainers": trainers, "exchanges": exchanges},
        seed=changes.pop("seed", 7),
        **changes,
    )
    return Job(spec, chunks)


def train(job: Job, graph: AdmittedGraph, recipe: Recipe) -> tuple[list[Learner], list[TrainingReport]]:
    """All exchanges of a job with the plain average at each; the learners and the leader's reports."""
    trainers, exchanges = job.spec.exchange.trainers, job.spec.exchange.exchanges
    learners = [Learner(graph, recipe, job.spec, index=k, trial=0) for k in range(trainers)]
    start = learners[0].initial()
    for learner in learners:
        learner.write(start)
    datasets = [job.dataset() for _ in learners]
    reports = [asyncio.run(_exchange(learners, datasets, number, exchanges)) for number in range(exchanges)]
    return learners, reports


async def learn(learner: Learner, dataset: EncryptedDataset, exchange: int, exchanges: int) -> None:
    """The steps before an exchange, on the rows of the chunks that are due before it."""
    rows = [examples async for examples in dataset.read(learner.due(exchange))]
    learner.train(iter(rows), exchange, exchanges)


async def _exchange(
    learners: Sequence[Learner], datasets: Sequence[EncryptedDataset], number: int, exchanges: int
) -> TrainingReport:
    for learner, dataset in zip(learners, datasets, strict=True):
        await learn(learner, dataset, number, exchanges)
    merged = np.asarray(np.mean([learner.read() for learner in learners], axis=0), np.float32)
    sums = np.sum([learner.sums() for learner in learners], axis=0)
    for learner in learners:
        learner.write(merged)
    reports = [learner.report(number, sums) for learner in learners]
    return reports[0]
