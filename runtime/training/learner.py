"""One trainer's learning in one trial: local steps between exchanges, on its own part of the data."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from runtime.datasets import EncryptedDataset
from runtime.training.errors import Reason, failing_as
from runtime.training.feed import Feed, InMemoryFeed, Portion
from runtime.training.graphs import inference_model
from runtime.training.initial import initial_values
from runtime.training.layout import FlatLayout, Vector
from runtime.training.metrics import SUMS, Place, told
from runtime.training.seeds import Seeds
from runtime.training.stepper import Stepper
from runtime.training.timetable import Part, Timetable
from runtime.training.validation import Validator
from runtime.wire.jobs import JobSpec
from runtime.wire.reports import TrainingReport
from wasm_sandbox.graph import AdmittedGraph
from wasm_sandbox.recipe import Recipe
from wasm_sandbox.recipe_fit import check_recipe


class Learner:
    """Trains a graph by a recipe. Never raises because training diverges: it says so in its sums.

    An exchange goes: `train`, then `read` and `sums` to the parameter server, then `write` of the merged
    vector and `report` of the merged sums — on every trainer, since all must stop early at the same time.
    """

    def __init__(
        self, graph: AdmittedGraph, recipe: Recipe, spec: JobSpec, *, index: int, trial: int, threads: int = 1
    ) -> None:
        """
        Raises:
            PlanRefused: recipe-invalid, where it does not fit the job.
            TrainingFailed: the graph cannot be trained as the recipe says.
        """
        request = spec.build_request(trial)
        check_recipe(recipe, request)
        self._graph, self._recipe, self._spec, self._trial = graph, recipe, spec, trial
        self._timetable = Timetable.of(spec, recipe)
        self._layout = FlatLayout(graph.parameters)
        self._shared = Seeds(spec.seed, recipe.seed, trial)
        """The same on every trainer."""
        own = Seeds(spec.seed, recipe.seed, trial, "trainer", index)
        self._feed: Feed = InMemoryFeed(Part.of(spec, index), self._timetable, own)
        self._stepper = Stepper(graph, recipe, request, self._layout, self._timetable, own, threads)
        self._validator = Validator(graph, recipe, request, self._layout, self._stepper.vector, threads)
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
        self._stepper.vector[:] = initial_values(self._graph, self._layout, self._shared)
        return self.read()

    def read(self) -> Vector:
        """A copy of the current vector [elements]; always finite."""
        return self._stepper.vector.copy()

    def write(self, vector: NDArray[np.float32]) -> None:
        """Go on from this vector [≥ elements]; what lies beyond the parameters is padding."""
        self._stepper.adopt(vector[: self._layout.elements])

    async def train(self, dataset: EncryptedDataset, exchange: int, exchanges: int) -> None:
        """The steps due before this trial's exchange `exchange` of `exchanges`, and the validation of the
        vector that they began with (of the last exchange, which has no steps: the final model's).

        Raises:
            DatasetError: a chunk is not what the owner made.
            TrainingFailed: the engine failed.
        """
        self._sums[:] = 0
        validated = False
        with failing_as(Reason.ENGINE_FAILED):
            async for portion in self._feed.portions(dataset, exchange, exchanges):
                if not validated and exchanges > 1:
                    await asyncio.to_thread(self._validate)
                    validated = True
                await asyncio.to_thread(self._learn, portion)
            if not validated:
                await asyncio.to_thread(self._validate)
        self._sums[Place.DIVERGED] = self._stepper.diverged

    def _learn(self, portion: Portion) -> None:
        self._stepper.learn(portion, self._sums)

    def _validate(self) -> None:
        self._validator.add(self._feed.validation, self._sums)

    def sums(self) -> NDArray[np.float64]:
        """What was measured since the exchange before, [SUMS]; the parameter server adds them up."""
        return self._sums.copy()

    def report(self, exchange: int, merged_sums: NDArray[np.float64]) -> TrainingReport:
        """What the sums of all trainers say. `exchange` counts over the whole job."""
        report = TrainingReport(
            exchange=exchange,
            trial=self._trial,
            steps=self._stepper.steps,
            learning_rate=self._stepper.learning_rate,
        )
        return told(merged_sums, report, frozenset(self._recipe.metrics))

    def export(self) -> bytes:
        """The inference model of the current vector as ONNX bytes, preprocessing and activation included.

        Raises:
            TrainingFailed: the engine failed.
        """
        with failing_as(Reason.ENGINE_FAILED):
            values = self._layout.views(self._stepper.vector)
            model = inference_model(self._graph, values, self._recipe, self._spec.dataset.task)
            data: bytes = model.SerializeToString(deterministic=True)
            return data
