"""Optimizer steps on the flat vector: forward and backward, clipping, update, running statistics, average."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.ps.vectors import blocks
from chiron.runtime.training.allocation import StepAllocation
from chiron.runtime.training.augmentation import augment, mix
from chiron.runtime.training.batches import Gathered, Portion, gather
from chiron.runtime.training.layout import FlatLayout, Vector
from chiron.runtime.training.losses import TargetEncoder, Targets
from chiron.runtime.training.masking import all_finite, kept, selected
from chiron.runtime.training.metrics import correct
from chiron.runtime.training.optimizers import (
    BLOCK,
    average,
    clip,
    learning_rate,
    optimizer_state,
    squared_norm,
)
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import GradientSession
from chiron.runtime.training.sums import Place
from chiron.runtime.training.training_model import TrainingModel
from chiron.wasm_sandbox.recipe import Recipe, matches
from chiron.wire.contract import BuildRequest


class Stepper:
    """Works on the vector in place, and owns everything else that a step changes."""

    def __init__(
        self,
        model: TrainingModel,
        layout: FlatLayout,
        recipe: Recipe,
        request: BuildRequest,
        allocation: StepAllocation,
        seeds: Seeds,
        *,
        vector: Vector,
        variances: Sequence[slice],
        threads: int,
    ) -> None:
        """Train in the memory of `vector` [elements], whose spans `variances` are not to be negative.

        Raises:
            TrainingFailed: the engine refuses the model.
        """
        self._recipe, self._allocation, self._seeds = recipe, allocation, seeds
        self._classification = request.classes > 0
        elements = layout.elements
        self.vector = vector
        self._variances = variances
        self._adopted: Vector = np.zeros(elements, np.float32)
        """The vector adopted last, in memory of others: a training that diverges falls back to it."""
        self._gradient: Vector = np.zeros(elements, np.float32)
        self._total: Vector = np.zeros(elements if recipe.accumulation > 1 else 0, np.float32)
        self.ema: Vector = np.zeros(elements if recipe.ema_decay else 0, np.float32)
        """Average of the weights since the first step."""
        self._watched = recipe.clip_norm is not None or recipe.ema_decay is not None
        """Whether each gradient's norm is measured: to clip by it, or to keep what is not finite out of the
        average. Otherwise `learn` finds such a gradient by what it makes of the vector and the moments."""
        self._masks = model.masks
        self._session = GradientSession(model, layout, self.vector, self._gradient, threads)
        self._buffers = {name: layout.views(self.vector)[name] for name in model.statistics}
        decayed = _decayed(layout, model.gradients, recipe)
        self.optimizer = optimizer_state(recipe.optimizer, elements, decayed, allocation.trainers)
        self._encoder = TargetEncoder(recipe.loss, request)
        self.steps = 0
        """Steps taken so far, as allocated."""
        self.learning_rate = 0.0
        """The learning rate of the latest step."""
        self.diverged: NDArray[np.bool_] = np.zeros(1, np.bool_)
        """Whether it has, [1]. It computes on all the same, so nobody sees it; what it learns is dropped."""

    def adopt(self, vector: Vector) -> None:
        """Go on from another vector [elements]. It is kept, not copied: it must not change until the next."""
        self._adopted = vector
        self.vector[:] = vector
        self._bound_variances()

    def _bound_variances(self) -> None:
        for span in self._variances:
            # The outer optimizer's momentum can carry an average below what a variance can be.
            np.maximum(self.vector[span], 0, out=self.vector[span])

    def counters(self) -> NDArray[np.float64]:
        """Steps, latest learning rate, whether diverged: for checkpoints."""
        return np.array([self.steps, self.learning_rate, self.diverged[0]], np.float64)

    def set_counters(self, counters: NDArray[np.float64]) -> None:
        """Go on from `counters()`."""
        self.steps, self.learning_rate, self.diverged = (
            int(counters[0]),
            float(counters[1]),
            counters[2:3] > 0,
        )

    def learn(self, portion: Portion, sums: NDArray[np.float64]) -> None:
        """Take the steps of a portion and add up its training loss. Ends in a finite vector."""
        if len(self.ema) and self.steps == 0:
            self.ema[:] = self.vector
        for gathered in gather(portion, self._encoder):
            self._learn_gathered(gathered, sums)
        if portion.batches:
            self.steps = portion.batches[-1].step + 1
        self._note(all_finite(self.vector, *self.optimizer.moments()))
        for block in blocks(len(self.vector), BLOCK):
            self.vector[block] = selected(self.diverged, self._adopted[block], self.vector[block])
        self._bound_variances()

    def _note(self, finite: NDArray[np.bool_]) -> None:
        self.diverged = self.diverged | ~finite

    def take_average(self) -> None:
        """Make the moving average the vector, if there is one."""
        if len(self.ema) and self.steps:
            self.vector[:] = selected(all_finite(self.ema), self.ema, self.vector)

    def _learn_gathered(self, gathered: Gathered, sums: NDArray[np.float64]) -> None:
        scores = np.empty_like(gathered.dense)
        counted = np.zeros(len(scores), np.bool_)
        """Rows of the steps before it diverged."""
        for step, rows in gathered.steps:
            loss = self._step(step, gathered.x[rows], gathered.dense[rows], scores[rows])
            counted[rows] = ~self.diverged
            sums[Place.TRAIN_LOSS] += kept(~self.diverged, np.array([loss * (rows.stop - rows.start)])).sum()
        sums[Place.TRAIN_COUNT] += counted.sum()
        if self._classification:
            sums[Place.TRAIN_CORRECT] += (correct(scores, gathered.y) & counted).sum()

    def _step(
        self, step: int, x: NDArray[Any], dense: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> float:
        """One step, whose outputs [n, …] are written to `scores`; its loss."""
        x, dense = self._varied(step, x, dense)
        loss, scores[...] = self._accumulate(step, x, self._encoder.encode(dense))
        squared = squared_norm(self._gradient) if self._watched else 0.0
        self._note(all_finite(np.array([loss, squared])))
        clip(self._gradient, self._recipe.clip_norm, self._recipe.clip_value, squared)
        self.learning_rate = learning_rate(self._recipe, step, self._allocation.steps)
        self.optimizer.update(self.vector, self._gradient, self.learning_rate)
        if self._recipe.ema_decay is not None:
            # The cap lets a short training forget its first weights, as TensorFlow's num_updates does.
            decay = min(self._recipe.ema_decay, (1 + step) / (10 + step))
            average(self.ema, self.vector, decay, ~self.diverged)
        return loss

    def _varied(
        self, step: int, x: NDArray[Any], dense: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        settings = self._recipe.augmentations
        if settings.spatial:
            x = augment(x, settings, self._seeds.generator("augment", step))
        if settings.mixup_alpha:
            x, dense = mix(x, dense, settings.mixup_alpha, self._seeds.generator("mixup", step))
        return x, dense

    def _accumulate(self, step: int, x: NDArray[Any], targets: Targets) -> tuple[float, NDArray[np.float32]]:
        """Loss and outputs of a batch, computed in parts; its gradient is left in the gradient's buffer."""
        parts = min(self._recipe.accumulation, len(x))
        if parts == 1:
            return self._run(step, 0, x, targets)
        losses, outputs = 0.0, []
        for part in range(parts):
            rows = slice(part * len(x) // parts, (part + 1) * len(x) // parts)
            loss, output = self._run(step, part, x[rows], Targets(targets.values[rows], targets.scale))
            losses += loss
            outputs.append(output.copy())
            if part == 0:
                self._total[:] = self._gradient
            else:
                self._total += self._gradient
        self._gradient[:] = self._total
        return losses, np.concatenate(outputs)

    def _run(
        self, step: int, part: int, x: NDArray[Any], targets: Targets
    ) -> tuple[float, NDArray[np.float32]]:
        masks = {
            mask.name: mask.draw(len(x), self._seeds.generator("dropout", step, part, number))
            for number, mask in enumerate(self._masks)
        }
        result = self._session.run(x, targets, masks)
        for name, value in self._session.statistics.items():
            self._buffers[name][...] = value
        return result


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
