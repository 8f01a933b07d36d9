"""The optimizer steps before each exchange, and the number of examples in memory at a time.

The steps follow from public facts and the recipe alone, and are the same on every trainer.

A batch of the recipe is spread over all trainers: each step, every trainer works on its share. So the number
of steps does not depend on the number of trainers, and uneven partitions only make shares uneven.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.runtime.training.partition import Partition, is_streamed, validation_percent
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.jobs import JobSpec, exchanges_of

if TYPE_CHECKING:
    from chiron.wasm_sandbox.graph import AdmittedGraph

DEFAULT_EPOCHS = 10
ACTIVATION_BYTES = 4 * 2**30
"""Bound on one batch's values, forward and backward. An enclave without memory ends, and the host sees it."""
_LARGEST_EVALUATION = 128
_BACKWARD = 2
"""A training step holds about as many gradients as values."""


class EpochShare(NamedTuple):
    """The `place`-th of `parts` pieces of an epoch."""

    epoch: int
    place: int
    parts: int


@dataclass(frozen=True)
class StepAllocation:
    """The optimizer steps of a trial of `exchanges` exchanges."""

    steps_per_epoch: int
    steps: int
    exchanges: int
    trainers: int

    @classmethod
    def of(cls, spec: JobSpec, recipe: Recipe, trial: int) -> "StepAllocation":
        """The steps that the recipe asks for; of streamed data, whole epochs.

        Raises:
            TrainingFailed: steps-exceed-envelope, too-few-exchanges.
        """
        examples = spec.dataset.examples
        trained = examples - examples * validation_percent(spec) // 100
        steps_per_epoch = max(1, -(-trained // recipe.batch_size))
        steps = recipe.steps or (recipe.epochs or DEFAULT_EPOCHS) * steps_per_epoch
        trainers = spec.exchange.trainers
        allocation = cls(steps_per_epoch, steps, len(exchanges_of(spec, trial)), trainers)
        if is_streamed(spec):
            allocation = replace(allocation, steps=max(1, round(allocation.epochs)) * steps_per_epoch)
            if allocation.epochs > allocation.learning_exchanges:
                raise TrainingFailed(Reason.TOO_FEW_EXCHANGES)
        if allocation.steps * spec.trials > spec.envelope.max_steps:
            raise TrainingFailed(Reason.STEPS_EXCEED_ENVELOPE)
        return allocation

    @property
    def epochs(self) -> float:
        """The number of times that each example is seen."""
        return self.steps / self.steps_per_epoch

    @property
    def learning_exchanges(self) -> int:
        """Exchanges with steps before them: all but the last, which measures the final model.

        Where there is but one, it has them all.
        """
        return max(1, self.exchanges - 1)

    def due(self, exchange: int) -> range:
        """Steps before an exchange, of data in memory: dealt out evenly."""
        if exchange >= self.learning_exchanges:
            return range(self.steps, self.steps)
        learning = self.learning_exchanges
        return range(exchange * self.steps // learning, (exchange + 1) * self.steps // learning)

    def share(self, exchange: int) -> EpochShare | None:
        """The piece of an epoch before an exchange, of streamed data: epochs begin at exchanges."""
        learning, epochs = self.learning_exchanges, round(self.epochs)
        if exchange >= learning:
            return None
        epoch = exchange * epochs // learning
        first, following = -(-epoch * learning // epochs), -(-(epoch + 1) * learning // epochs)
        return EpochShare(epoch, exchange - first, following - first)

    def steps_in(self, share: EpochShare) -> range:
        """Steps of a piece of an epoch."""
        start = share.epoch * self.steps_per_epoch
        first = share.place * self.steps_per_epoch // share.parts
        last = (share.place + 1) * self.steps_per_epoch // share.parts
        return range(start + first, start + last)


def check_batch(
    graph: "AdmittedGraph", recipe: Recipe, partition: Partition, allocation: StepAllocation
) -> None:
    """Refuse a batch whose values do not fit.

    Raises:
        TrainingFailed: batch-exceeds-memory.
    """
    rows = -(-sum(partition.training_rows) // allocation.steps_per_epoch)
    at_once = -(-rows // recipe.accumulation)
    needed = _BACKWARD * (at_once * graph.activation_bytes_per_example + graph.activation_bytes_fixed)
    if needed > ACTIVATION_BYTES:
        raise TrainingFailed(Reason.BATCH_EXCEEDS_MEMORY)


def evaluation_rows(graph: "AdmittedGraph") -> int:
    """Rows to evaluate at a time."""
    return max(1, min(_LARGEST_EVALUATION, ACTIVATION_BYTES // max(graph.activation_bytes_per_example, 1)))
