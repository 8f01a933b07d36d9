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
    answer_s,
    groups_of_an_exchange,
    making_ready_s,
    reading_s,
    slot_s,
)
from chiron.runtime.roles.plan import Plan
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.training.allocation import StepAllocation
from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.partition import Partition, is_streamed
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sums import Place
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import InputType, Task
from chiron.wire.jobs import JobSpec

ROOM_S = 0.05
"""Room beside the work, at least."""
ROOM = 0.03
"""The same, as a part of it."""
_STEPS = 4
"""Steps of one measurement, and batches of rows that are drawn."""
_SAMPLES = 8
_SAMPLE_S = 0.25
_LONGEST = 50
"""Measurements of one sample, at most."""
_EXCHANGES = 2 + _SAMPLES * _LONGEST + 1
_ROWS_BYTES = 32 * 2**20
"""The rows that are drawn, at most; one batch where that is larger."""
_OF_THE_SLOT = 0.3
"""How much of the slot in which it is measured that may take."""
_FAR_OFF = 4
"""A plan is refused for its answers where they take so many slots: a busy machine may have been measured."""
_KEY = bytes(32)
"""The drawn rows are public, and nobody is sent them."""
_STILL = 1e-9
"""Learning rate with which a few steps on random rows do not diverge."""


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

    def refusal(self, spec: JobSpec, rung: int) -> str | None:
        """Why the plan does not fit the job's slots, as a stable code; None where it does."""
        if self.slot_s > slot_s(spec, rung):
            return "plan-exceeds-slot"
        if self.row_s * spec.query_rows > _FAR_OFF * answer_s(spec):
            return "answers-exceed-slot"
        return None


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
        exchange = spec.exchange.model_copy(update={"trainers": 1, "exchanges": _EXCHANGES})
        envelope = spec.envelope.model_copy(update={"max_steps": 10_000_000})
        changes = {"dataset": dataset, "exchange": exchange, "envelope": envelope}
        self._spec = spec.model_copy(update=changes | {"trials": 1, "validation_percent": 50})
        self.plan = _shortened(plan, self._steps * (_EXCHANGES - 1), work.rows_a_step)
        self.run = TrialRun(self._spec, 0, 0, engines)
        self._next = 0
        self._dataset = EncryptedDataset(dataset, _KEY, self._fetch)

    async def measure(self) -> Needed:
        until = time.perf_counter() + self._until
        # The first one also takes in the rows, and makes what is made once.
        await self._train(1)
        once = await self._train(1)
        # About as many steps at a time as a job takes, but where that is long.
        times = max(1, min(-(-self._work.steps // self._steps), int(_SAMPLE_S / once), _LONGEST))
        samples = [await self._train(times)]
        while len(samples) < 2 or (len(samples) < _SAMPLES and time.perf_counter() < until):
            samples.append(await self._train(times))
        # What is not validation counts as steps: so its shortest time.
        validating = min([await self._validate() for _ in range(len(samples))])
        usual = median(samples)
        each_step = max(usual - validating, 0.0) / self._steps
        if self.run.failure is not None or self.run.pushed()[1][Place.DIVERGED]:
            # It stopped at its first step.
            each_step = usual
        row_s = validating / self._rows
        work = each_step * self._work.steps + row_s * self._work.validation_rows
        if is_streamed(self._job):
            work += reading_s(self._job)
        unsteady = max(samples) / usual - 1
        return Needed(work + max(ROOM_S, work * max(ROOM, unsteady)), row_s)

    async def _validate(self) -> float:
        """Seconds that the last exchange takes, which has no steps."""
        began = time.perf_counter()
        await self.run.train(self._dataset, _EXCHANGES - 1, _EXCHANGES)
        return time.perf_counter() - began

    async def _train(self, times: int) -> float:
        """Seconds that the next exchanges' steps take, each."""
        began = time.perf_counter()
        for number in range(self._next, self._next + times):
            await self.run.train(self._dataset, number, _EXCHANGES)
        self._next += times
        return (time.perf_counter() - began) / times

    async def _fetch(self, number: int) -> bytes:
        return self._chunks[number]


def _shortened(plan: Plan, steps: int, batch_size: int) -> Plan:
    """The same graph, trained for so many steps that do not move it, and no shorter."""
    optimizer = plan.recipe.optimizer.model_copy(update={"learning_rate": _STILL})
    length = {"steps": steps, "epochs": None, "early_stop": None, "batch_size": batch_size}
    recipe = plan.recipe.model_copy(update=length | {"optimizer": optimizer})
    return Plan(plan.graph, recipe.model_dump_json().encode(), recipe)


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
