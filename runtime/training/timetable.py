"""Who trains on what, when: from public facts and the recipe alone, the same on every trainer.

A batch of the recipe is spread over all trainers: each step, every trainer works on its share. So the number
of steps does not depend on the number of trainers, and uneven partitions only make shares uneven.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from chiron.runtime.datasets.chunks import ChunkForm
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.jobs import JobSpec
from chiron.wire.schedule import exchanges_of

DEFAULT_EPOCHS = 10
IN_MEMORY_BYTES = 256 * 2**20
"""A trainer whose part of the plaintext is larger than this streams it."""
VALIDATION_BYTES = 64 * 2**20
"""Streaming trainers hold out at most this much of their part, since it stays in memory."""


@dataclass(frozen=True)
class Part:
    """One trainer's part of the dataset, from the manifest and the spec. Public."""

    index: int
    seed: int
    chunks: tuple[int, ...]
    validation_rows: tuple[int, ...]
    """Of each chunk, how many rows are for validation."""
    training_rows: tuple[int, ...]
    """Of each chunk, how many rows are trained on."""
    chunk_bytes: int
    """Plaintext of a chunk."""
    streamed: bool

    @classmethod
    def of(cls, spec: JobSpec, index: int) -> "Part":
        """Trainer `index`'s part: chunks index, index + trainers, …"""
        manifest = spec.dataset
        chunks = tuple(range(index, manifest.chunks, spec.exchange.trainers))
        validation = tuple(_validation_rows(spec, chunk) for chunk in chunks)
        rows = [_end(spec, chunk) - chunk * manifest.chunk_examples for chunk in chunks]
        training = tuple(n - v for n, v in zip(rows, validation, strict=True))
        size = ChunkForm.of(manifest).layout().size
        return cls(index, spec.seed, chunks, validation, training, size, is_streamed(spec))


def _part_bytes(spec: JobSpec) -> int:
    """Plaintext of trainer 0's part, the largest, so that all trainers do the same."""
    chunks = -(-spec.dataset.chunks // spec.exchange.trainers)
    return chunks * ChunkForm.of(spec.dataset).layout().size


def is_streamed(spec: JobSpec) -> bool:
    """Whether trainers stream their part instead of holding it in memory."""
    return _part_bytes(spec) > IN_MEMORY_BYTES


def _validation_percent(spec: JobSpec) -> int:
    if not is_streamed(spec):
        return spec.validation_percent
    return min(spec.validation_percent, VALIDATION_BYTES * 100 // _part_bytes(spec))


def _end(spec: JobSpec, chunk: int) -> int:
    return min((chunk + 1) * spec.dataset.chunk_examples, spec.dataset.examples)


def _validation_rows(spec: JobSpec, chunk: int) -> int:
    """Rounded so that all chunks together have the spec's percentage of all examples."""
    start = chunk * spec.dataset.chunk_examples
    percent = _validation_percent(spec)
    return _end(spec, chunk) * percent // 100 - start * percent // 100


class EpochShare(NamedTuple):
    """The `place`-th of `parts` pieces of an epoch."""

    epoch: int
    place: int
    parts: int


@dataclass(frozen=True)
class Timetable:
    """The optimizer steps of a trial of `exchanges` exchanges."""

    steps_per_epoch: int
    steps: int
    exchanges: int
    trainers: int

    @classmethod
    def of(cls, spec: JobSpec, recipe: Recipe, trial: int) -> "Timetable":
        """The steps that the recipe asks for; of streamed data, whole epochs.

        Raises:
            TrainingFailed: steps-exceed-envelope, too-few-exchanges.
        """
        examples = spec.dataset.examples
        trained = examples - examples * _validation_percent(spec) // 100
        steps_per_epoch = max(1, -(-trained // recipe.batch_size))
        steps = recipe.steps or (recipe.epochs or DEFAULT_EPOCHS) * steps_per_epoch
        trainers = spec.exchange.trainers
        table = cls(steps_per_epoch, steps, len(exchanges_of(spec, trial)), trainers)
        if is_streamed(spec):
            table = replace(table, steps=max(1, round(table.epochs)) * steps_per_epoch)
            if table.epochs > table.learning_exchanges:
                raise TrainingFailed(Reason.TOO_FEW_EXCHANGES)
        if table.steps * spec.trials > spec.envelope.max_steps:
            raise TrainingFailed(Reason.STEPS_EXCEED_ENVELOPE)
        return table

    @property
    def epochs(self) -> float:
        """How often each example is seen."""
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
