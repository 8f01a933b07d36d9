"""Optimizer steps on the flat vector: forward and backward, clipping, update, running statistics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.training.feed import Portion
from runtime.training.layout import FlatLayout, Vector
from runtime.training.losses import TargetEncoder
from runtime.training.metrics import Place, correct
from runtime.training.optimizers import clip, optimizer_state, squared_norm
from runtime.training.program import training_program
from runtime.training.schedules import learning_rate
from runtime.training.seeds import Seeds
from runtime.training.sessions import GradientSession
from runtime.training.timetable import Timetable
from wasm_sandbox.contract import BuildRequest
from wasm_sandbox.graph import AdmittedGraph
from wasm_sandbox.recipe import Recipe, matches


class Stepper:
    """Owns the vector and everything a step changes."""

    def __init__(
        self,
        graph: AdmittedGraph,
        recipe: Recipe,
        request: BuildRequest,
        layout: FlatLayout,
        timetable: Timetable,
        seeds: Seeds,
        threads: int,
    ) -> None:
        """
        Raises:
            TrainingFailed: the graph cannot be trained as the recipe says.
        """
        self._recipe, self._timetable, self._seeds = recipe, timetable, seeds
        self._classification = request.classes > 0
        self.vector: Vector = np.zeros(layout.elements, np.float32)
        self._gradient: Vector = np.zeros(layout.elements, np.float32)
        self._finite: Vector = np.zeros(layout.elements, np.float32)
        """The vector as the last exchange left it."""
        program = training_program(graph, recipe, request)
        self._session = GradientSession(program, layout, self.vector, self._gradient, threads)
        self._buffers = {name: layout.views(self.vector)[name] for name in program.statistics}
        self._optimizer = optimizer_state(
            recipe.optimizer, layout.elements, _decayed(layout, program.gradients, recipe)
        )
        self._encoder = TargetEncoder(recipe.loss, request)
        self.steps = 0
        """Taken so far, by the timetable."""
        self.learning_rate = 0.0
        """Of the latest step."""
        self.diverged = False

    def adopt(self, vector: Vector) -> None:
        """Go on from another vector."""
        self.vector[:] = vector
        self._finite[:] = vector

    def learn(self, portion: Portion, sums: NDArray[np.float64]) -> None:
        """Take the steps of a portion and add up its training loss. Ends in a finite vector."""
        for step, rows in portion.batches:
            if self.diverged:
                break
            examples = portion.examples
            self._step(step, examples.x[rows], examples.y[rows], sums)
        if portion.batches:
            self.steps = portion.batches[-1].step + 1
        if not self.diverged and not np.isfinite(self.vector).all():
            self.diverged = True
        if self.diverged:
            self.vector[:] = self._finite

    def _step(self, step: int, x: NDArray[Any], y: NDArray[Any], sums: NDArray[np.float64]) -> None:
        targets = self._encoder.encode(self._encoder.dense(y))
        loss, outputs = self._session.run(x, targets, {})
        squared = squared_norm(self._gradient)
        if not math.isfinite(loss) or not math.isfinite(squared):
            self.diverged = True
            return
        clip(self._gradient, self._recipe.clip_norm, self._recipe.clip_value, squared)
        self.learning_rate = learning_rate(self._recipe, step, self._timetable.steps)
        self._optimizer.update(self.vector, self._gradient, self.learning_rate)
        for name, value in self._session.statistics.items():
            self._buffers[name][...] = value
        sums[Place.TRAIN_LOSS] += loss * len(y)
        sums[Place.TRAIN_COUNT] += len(y)
        if self._classification:
            sums[Place.TRAIN_CORRECT] += correct(outputs, y)


def _decayed(layout: FlatLayout, trained: Mapping[str, str], recipe: Recipe) -> Sequence[slice]:
    """Spans with weight decay: trained parameters of two dimensions or more, and neighbours joined."""
    spans: list[slice] = []
    for parameter in layout.parameters:
        flat = len(parameter.shape) < 2 and not recipe.decay_all
        if parameter.name not in trained or flat or matches(parameter.name, recipe.no_decay):
            continue
        span = layout.spans[parameter.name]
        if spans and spans[-1].stop == span.start:
            span = slice(spans.pop().start, span.stop)
        spans.append(span)
    return spans
