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
_LARGEST_PREDICTION = 256
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
    """Refuse a recipe whose largest batch has values that do not fit.

    A value's size is a line over the batch, as admission has proven: no smaller batch takes more.

    Raises:
        TrainingFailed: batch-exceeds-memory.
    """
    at_once = -(-largest_batch(partition, allocation) // recipe.accumulation)
    needed = _BACKWARD * (at_once * graph.activation_bytes_per_example + graph.activation_bytes_fixed)
    if needed > ACTIVATION_BYTES:
        raise TrainingFailed(Reason.BATCH_EXCEEDS_MEMORY)


def largest_batch(partition: Partition, allocation: StepAllocation) -> int:
    """Rows of the largest batch that any exchange trains on."""
    if not partition.streamed:
        return -(-sum(partition.training_rows) // allocation.steps_per_epoch)
    shares = map(allocation.share, range(allocation.learning_exchanges))
    # Pieces of an epoch differ in rows and in steps, not from one epoch to the next.
    pieces = {(share.place, share.parts): share for share in shares if share is not None}
    return max(
        -(-rows_in(partition, share) // max(1, len(allocation.steps_in(share)))) for share in pieces.values()
    )


def rows_in(partition: Partition, share: EpochShare) -> int:
    """Rows of a piece of an epoch of streamed data: each chunk gives its share."""
    place, parts = share.place, share.parts
    return sum((place + 1) * rows // parts - place * rows // parts for rows in partition.training_rows)


def evaluation_rows(graph: "AdmittedGraph") -> int:
    """Rows to evaluate at a time: as many as fit, and not more than are of use."""
    return min(_LARGEST_EVALUATION, _rows_that_fit(graph))


def predicted_rows(graph: "AdmittedGraph") -> int:
    """Rows to predict at a time."""
    return min(_LARGEST_PREDICTION, _rows_that_fit(graph))


def _rows_that_fit(graph: "AdmittedGraph") -> int:
    room = ACTIVATION_BYTES - graph.activation_bytes_fixed
    return max(1, room // max(graph.activation_bytes_per_example, 1))
