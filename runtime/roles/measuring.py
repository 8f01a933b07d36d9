"""How long a plan's work takes, measured before any data is read.

The graph is trained and validated a few times on rows that are drawn from the job's public seed: random
numbers of the dataset's shape, labels in range, the values that training begins with. So what is measured
depends on the plan and the machine, and on nothing else that is secret.
"""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import ChunkForm, DatasetWriter, EncryptedDataset, Examples
from chiron.runtime.engine.supply import Engines
from chiron.runtime.pacing import (
    RUNGS,
    answer_s,
    groups_of_an_exchange,
    making_ready_s,
    reading_s,
    rung_for,
)
from chiron.runtime.roles.plan import Plan
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.training.allocation import StepAllocation
from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.metrics import Place
from chiron.runtime.training.partition import Partition, is_streamed
from chiron.runtime.training.seeds import Seeds
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import InputType, Task
from chiron.wire.jobs import JobSpec

ROOM_S = 0.05
"""Room beside the work, at least."""
ROOM = 0.03
"""The same, as a part of it."""
_STEPS = 4
"""Steps of one measurement, and batches of rows that are drawn."""
_MEASUREMENTS = 12
_ROWS_BYTES = 32 * 2**20
"""The rows that are drawn, at most; one batch where that is larger."""
_OF_THE_SLOT = 0.3
"""How much of the slot in which it is measured that may take."""
_KEY = bytes(32)
"""The drawn rows are public, and nobody is sent them."""
_STILL = {"learning_rate": 1e-12}
"""So that a few steps on random rows do not diverge."""


@dataclass(frozen=True)
class Work:
    """What a trainer does before an exchange, in numbers. They follow from spec and recipe."""

    rows_a_step: int
    steps: int
    """Before one exchange, or of streamed data in one window, at most."""
    validation_rows: int

    @classmethod
    def of(cls, spec: JobSpec, recipe: Recipe, trial: int, index: int) -> "Work":
        """The largest of all exchanges of a trial.

        Raises:
            TrainingFailed: the recipe does not fit the job.
        """
        allocation = StepAllocation.of(spec, recipe, trial)
        partition = Partition.of(spec, index)
        exchanges = range(allocation.exchanges)
        if is_streamed(spec):
            shares = [share for number in exchanges if (share := allocation.share(number))]
            steps = max(len(allocation.steps_in(share)) for share in shares)
            # The last batches of a window come with the next.
            steps = -(-steps // groups_of_an_exchange(spec)) + 1
        else:
            steps = max(len(allocation.due(number)) for number in exchanges)
        rows = max(1, -(-sum(partition.training_rows) // allocation.steps_per_epoch))
        return cls(rows, steps, sum(partition.validation_rows))


@dataclass(frozen=True)
class Needed:
    """What a plan needs, on this machine as it is now."""

    slot_s: float = 0.0
    """Length of a slot before an exchange, with room."""
    row_s: float = 0.0
    """Time to answer one row of a query."""


@dataclass
class Fit:
    """How a plan fits the job's slots."""

    rung: int = 0
    """The rung that it needs."""
    failure: str | None = None
    """Why it does not fit."""

    def judge(self, spec: JobSpec, needed: Needed, agreed: int | None) -> None:
        """Take in what was measured; `agreed` is the job's rung, once there is one."""
        rung = rung_for(spec, needed.slot_s)
        self.rung = RUNGS - 1 if rung is None else rung
        if rung is None or (agreed is not None and rung > agreed):
            self.failure = "plan-exceeds-slot"
        elif needed.row_s * spec.query_rows > answer_s(spec):
            self.failure = "answers-exceed-slot"


async def measure(
    engines: Engines, spec: JobSpec, plan: Plan, trial: int, index: int, vector: NDArray[np.float32]
) -> Needed:
    """What this plan needs. `vector` are the values that training begins with.

    A plan that cannot be trained needs nothing.
    """
    try:
        work = Work.of(spec, plan.recipe, trial, index)
    except TrainingFailed:
        return Needed()
    probe = _Probe(engines, spec, plan, work)
    try:
        await probe.run.begin(probe.plan, from_start=False)
        await probe.run.adopt(vector)
        return await probe.measure()
    finally:
        await probe.run.close()


class _Probe:
    """A job of one trainer over drawn rows, as many of them for validation as to train on."""

    def __init__(self, engines: Engines, spec: JobSpec, plan: Plan, work: Work) -> None:
        self._work = work
        self._job = spec
        self._until = _OF_THE_SLOT * making_ready_s(spec)
        form = ChunkForm.of(spec.dataset)
        row_bytes = max(1, form.layout().size // form.rows)
        self._steps = max(1, min(_STEPS, _ROWS_BYTES // (2 * row_bytes * work.rows_a_step)))
        self._rows = self._steps * work.rows_a_step
        writer = DatasetWriter(form, "0" * 32, _KEY)
        self._chunks = _sealed(writer, spec, 2 * self._rows)
        dataset = writer.manifest()
        exchange = spec.exchange.model_copy(update={"trainers": 1, "exchanges": _MEASUREMENTS + 2})
        envelope = spec.envelope.model_copy(update={"max_steps": 10_000_000})
        changes = {"dataset": dataset, "exchange": exchange, "envelope": envelope}
        self._spec = spec.model_copy(update=changes | {"trials": 1, "validation_percent": 50})
        steps = self._steps * (_MEASUREMENTS + 1)
        length = {"steps": steps, "epochs": None, "batch_size": work.rows_a_step, "early_stop": None}
        optimizer = plan.recipe.optimizer.model_copy(update=_STILL)
        recipe = plan.recipe.model_copy(update=length | {"optimizer": optimizer})
        self.plan = Plan(plan.graph, recipe.model_dump_json().encode(), recipe)
        self.run = TrialRun(self._spec, 0, 0, engines)
        self._dataset = EncryptedDataset(dataset, _KEY, self._fetch)

    async def measure(self) -> Needed:
        began = time.perf_counter()
        # The first one also takes in the rows, and makes what is made once.
        await self._train(0)
        taken: list[float] = []
        while len(taken) < _MEASUREMENTS and (len(taken) < 2 or time.perf_counter() - began < self._until):
            taken.append(await self._train(1 + len(taken)))
        validating = await self._train(_MEASUREMENTS + 1)
        usual = median(taken)
        each_step = max(usual - validating, 0.0) / self._steps
        if self.run.failure is not None or self.run.pushed()[1][Place.DIVERGED]:
            # It stopped at its first step.
            each_step = usual
        row_s = validating / self._rows
        work = each_step * self._work.steps + row_s * self._work.validation_rows
        if is_streamed(self._job):
            work += reading_s(self._job)
        unsteady = max(taken) / usual - 1
        return Needed(work + max(ROOM_S, work * max(ROOM, unsteady)), row_s)

    async def _train(self, exchange: int) -> float:
        began = time.perf_counter()
        await self.run.train(self._dataset, exchange, _MEASUREMENTS + 2)
        return time.perf_counter() - began

    async def _fetch(self, number: int) -> bytes:
        return self._chunks[number]


def _sealed(writer: DatasetWriter, spec: JobSpec, rows: int) -> list[bytes]:
    form = ChunkForm.of(spec.dataset)
    starts = range(0, rows, form.rows)
    return [
        writer.seal(_drawn(spec, start, min(form.rows, rows - start)), last=start == starts[-1])
        for start in starts
    ]


def _drawn(spec: JobSpec, start: int, rows: int) -> Examples:
    """Random rows in the dataset's form."""
    dataset, random = spec.dataset, Seeds(spec.seed, "measured").generator(start)
    shape = (rows, *dataset.input_shape)
    if dataset.input_dtype is InputType.UINT8:
        x: NDArray[np.uint8 | np.float32] = random.integers(0, 256, shape, np.uint8)
    else:
        x = random.standard_normal(shape, np.float32)
    if dataset.task is Task.CLASSIFICATION:
        return Examples(x, random.integers(0, dataset.classes, rows))
    return Examples(x, random.standard_normal((rows, *dataset.target_shape), np.float32))
