"""One trainer's learning in one trial: local steps between exchanges, on its own partition of the data."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import Examples
from chiron.runtime.training.allocation import StepAllocation, check_batch
from chiron.runtime.training.batches import Portion
from chiron.runtime.training.errors import Reason, failing_as
from chiron.runtime.training.feed import Feed, InMemoryFeed, StreamedFeed
from chiron.runtime.training.forms import in_form
from chiron.runtime.training.graphs import inference_model
from chiron.runtime.training.layout import (
    FlatLayout,
    Tensors,
    Vector,
    dump_tensors,
    dump_tensors_into,
    load_tensors,
)
from chiron.runtime.training.metrics import Validator, with_means
from chiron.runtime.training.partition import Partition
from chiron.runtime.training.rewrites import finish_strict
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import initial_values
from chiron.runtime.training.stepper import Stepper
from chiron.runtime.training.sums import Place
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import EarlyStop, Recipe
from chiron.wasm_sandbox.recipe_fit import check_recipe
from chiron.wire.contract import Oblivious
from chiron.wire.jobs import SUMS, JobSpec
from chiron.wire.reports import TrainingReport


class Learner:
    """Trains a graph by a recipe. Never raises because training diverges: it says so in its sums.

    An exchange goes: `train`; then `read` and `sums` to the parameter server; then `write` of the merged
    vector and `report` of the merged sums, on every trainer: all must stop early at the same time.
    """

    def __init__(
        self,
        graph: AdmittedGraph,
        recipe: Recipe,
        spec: JobSpec,
        *,
        index: int,
        trial: int,
        memory: Vector | None = None,
        threads: int = 1,
    ) -> None:
        """Train in `memory` [≥ elements], contiguous; in memory of the learner's own by default.

        Raises:
            PlanRefused: recipe-invalid, where it does not fit the job.
            TrainingFailed: the graph cannot be trained as the recipe says.
        """
        request = spec.build_request(trial)
        check_recipe(recipe, request, spec.oblivious)
        graph = in_form(graph, spec.oblivious)
        self._graph, self._recipe, self._spec, self._trial = graph, recipe, spec, trial
        self._allocation = StepAllocation.of(spec, recipe, trial)
        self._layout = FlatLayout(graph.parameters)
        self._shared = Seeds(spec.seed, recipe.seed, trial)
        """The same on every trainer."""
        own = Seeds(spec.seed, recipe.seed, trial, "trainer", index)
        partition = Partition.of(spec, index)
        check_batch(graph, recipe, partition, self._allocation)
        feed = StreamedFeed if partition.streamed else InMemoryFeed
        self._feed: Feed = feed(partition, self._allocation, own, spec.dataset)
        vector = np.zeros(self.elements, np.float32) if memory is None else memory[: self.elements]
        self._stepper = Stepper(
            training_model(graph, recipe, request, oblivious=spec.oblivious),
            self._layout,
            recipe,
            request,
            self._allocation,
            own,
            vector=vector,
            variances=_variances(graph, self._layout),
            threads=threads,
        )
        self._validator = Validator(graph, recipe, request, self._layout, vector, threads, spec.oblivious)
        self._stopping = EarlyStopping(recipe.early_stop, self.elements)
        self._sums = np.zeros(SUMS, np.float64)

    @property
    def elements(self) -> int:
        """Length of the vector."""
        return self._layout.elements

    def initial(self) -> Vector:
        """Initial values [elements], from the job's seed; they become the current vector.

        Raises:
            TrainingFailed: initialization-failed.
        """
        values = initial_values(self._graph, self._layout, self._shared)
        self._stepper.adopt(values)
        return values

    def read(self) -> Vector:
        """A copy of the current vector [elements]; always finite."""
        return self._stepper.vector.copy()

    def write(self, vector: NDArray[np.float32]) -> None:
        """Go on from this vector [≥ elements]; what lies beyond the parameters is padding.

        It must not change until the next: a training that diverges falls back to it.
        """
        self._stepper.adopt(vector[: self.elements])

    def due(self, exchange: int) -> Sequence[int]:
        """Numbers of the chunks whose rows `train` takes before this exchange, in order. Public."""
        return self._feed.due(exchange)

    def train(self, rows: Iterator[Examples], exchange: int, exchanges: int) -> None:
        """The steps due before this trial's exchange `exchange`, after the validation of the vector that
        they begin with. The last of the `exchanges` has no steps: what it validates is the final model.

        `rows` are those of the chunks `due`, chunk by chunk; all are taken.

        Raises:
            TrainingFailed: the engine failed.
        """
        self._sums[:] = 0
        self._stopping.validating(self._stepper.vector)
        validated = exchanges == 1
        with failing_as(Reason.ENGINE_FAILED):
            for portion in self._feed.portions(rows, exchange):
                self._work(portion, validate=not validated)
                validated = True
            if exchange == self._allocation.learning_exchanges - 1 and not self._stopping.stopped:
                self._stepper.take_average()
            if exchanges == 1:
                self._validate()
        self._sums[Place.DIVERGED] = self._stepper.diverged[0]

    def _work(self, portion: Portion, *, validate: bool) -> None:
        if validate:
            self._validate()
        # A warning in the log, which the host reads, would tell it that training diverges.
        with np.errstate(all="ignore"):
            if not self._stopping.stopped:
                self._stepper.learn(portion, self._sums)

    def _validate(self) -> None:
        with np.errstate(all="ignore"):
            self._validator.add(self._feed.validation, self._sums)

    @property
    def steps(self) -> int:
        """Optimizer steps taken so far."""
        return self._stepper.steps

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self._stepper.learning_rate

    def sums(self) -> NDArray[np.float64]:
        """Measurements since the exchange before, [SUMS]; the parameter server adds them up."""
        return self._sums.copy()

    def report(self, exchange: int, merged_sums: NDArray[np.float64]) -> TrainingReport:
        """Report what the sums of all trainers say. `exchange` counts over the whole job."""
        report = TrainingReport(exchange=exchange, trial=self._trial)
        report = with_means(merged_sums, report, frozenset(self._recipe.metrics))
        if self._stopping.judge(report.validation_loss):
            self._stepper.adopt(self._stopping.best)
        return report

    def export(self) -> bytes:
        """The inference model of the current vector as ONNX bytes, preprocessing and activation included.

        Raises:
            TrainingFailed: the engine failed.
        """
        with failing_as(Reason.ENGINE_FAILED):
            values = self._layout.views(self._stepper.vector)
            model = inference_model(self._graph, values, self._recipe, self._spec.dataset.task)
            if self._spec.oblivious is Oblivious.STRICT:
                finish_strict(model)
            data: bytes = model.SerializeToString(deterministic=True)
            return data

    def state(self) -> bytes:
        """All that training goes on from after an exchange; of one size for a graph and recipe. Secret."""
        counters = self._stepper.counters()
        return dump_tensors(self._tensors(counters))

    def state_into(self, buffer: memoryview) -> int:
        """Write `state()` to the beginning of `buffer`, without a copy in between; its length."""
        counters = self._stepper.counters()
        return dump_tensors_into(buffer, self._tensors(counters))

    def restore(self, saved: bytes) -> None:
        """Go on from `state()` of a learner of the same graph, recipe, spec, index and trial.

        Raises:
            TrainingFailed: training-state-invalid.
        """
        counters = self._stepper.counters()
        load_tensors(saved, self._tensors(counters))
        self._stepper.set_counters(counters)
        self._stepper.adopt(self.read())

    def _tensors(self, counters: NDArray[np.float64]) -> Tensors:
        tensors: dict[str, NDArray[Any]] = {
            "vector": self._stepper.vector,
            "ema": self._stepper.ema,
            "counters": counters,
            "best": self._stopping.best,
            "progress": self._stopping.progress,
        }
        tensors |= {f"moment{n}": array for n, array in enumerate(self._stepper.optimizer.moments())}
        return {name: array for name, array in tensors.items() if array.size}


def _variances(graph: AdmittedGraph, layout: FlatLayout) -> list[slice]:
    """The spans of the running variances of batch normalisations."""
    norms = (node for node in graph.forward.graph.node if node.op_type == "BatchNormalization")
    return [layout.spans[node.input[4]] for node in norms if node.input[4] in layout.spans]


class EarlyStopping:
    """Follows the merged validation loss, which all trainers see alike, and keeps the best vector."""

    def __init__(self, settings: EarlyStop | None, elements: int) -> None:
        self._settings = settings
        length = elements if settings else 0
        self.validated: Vector = np.zeros(length, np.float32)
        """The vector that is being validated."""
        self.best: Vector = np.zeros(length, np.float32)
        self.progress: NDArray[np.float64] = np.array([math.inf, 0.0, 0.0])
        """Best loss, exchanges since, whether learning has stopped."""

    @property
    def stopped(self) -> bool:
        """Whether learning has ended."""
        return bool(self.progress[2])

    def validating(self, vector: Vector) -> None:
        """Remember the vector that the next loss is of."""
        if self._settings and not self.stopped:
            self.validated[:] = vector

    def judge(self, loss: float | None) -> bool:
        """Take in a merged loss (None: not finite or nothing to validate on); True if learning ends here."""
        if not self._settings or self.stopped:
            return False
        if loss is not None and loss < self.progress[0] - self._settings.minimum_improvement:
            self.progress[:2] = loss, 0
            self.best[:] = self.validated
            return False
        if not math.isfinite(self.progress[0]):
            return False
        self.progress[1] += 1
        self.progress[2] = self.progress[1] >= self._settings.patience
        return self.stopped
