"""Who trains on what, when: from public facts and the recipe alone, the same on every trainer.

A batch of the recipe is spread over all trainers: each step, every trainer works on its share. So the number
of steps does not depend on the number of trainers, and uneven partitions only make shares uneven.
"""

from dataclasses import dataclass

from runtime.datasets.chunks import ChunkForm
from runtime.training.errors import Reason, TrainingFailed
from runtime.wire.jobs import JobSpec
from wasm_sandbox.recipe import Recipe

DEFAULT_EPOCHS = 10
IN_MEMORY_BYTES = 256 * 2**20
"""A trainer whose part of the plaintext is larger than this streams it."""


@dataclass(frozen=True)
class Part:
    """One trainer's part of the dataset, from the manifest and the spec."""

    chunks: tuple[int, ...]
    validation_rows: tuple[int, ...]
    """Of each chunk, how many rows are for validation."""
    training_rows: tuple[int, ...]
    """Of each chunk, how many rows are trained on."""
    streamed: bool

    @classmethod
    def of(cls, spec: JobSpec, index: int) -> "Part":
        """Trainer `index`'s part: chunks index, index + trainers, …"""
        manifest = spec.dataset
        chunks = tuple(range(index, manifest.chunks, spec.exchange.trainers))
        validation = tuple(_validation_rows(spec, chunk) for chunk in chunks)
        rows = [_end(spec, chunk) - chunk * manifest.chunk_examples for chunk in chunks]
        training = tuple(n - v for n, v in zip(rows, validation, strict=True))
        # Of trainer 0, whose part is the largest, so that all trainers do the same.
        most = len(range(0, manifest.chunks, spec.exchange.trainers))
        plaintext = most * ChunkForm.of(manifest).layout().size
        return cls(chunks, validation, training, plaintext > IN_MEMORY_BYTES)


def _end(spec: JobSpec, chunk: int) -> int:
    return min((chunk + 1) * spec.dataset.chunk_examples, spec.dataset.examples)


def _validation_rows(spec: JobSpec, chunk: int) -> int:
    """Rounded so that all chunks together have `validation_percent` of all examples."""
    start = chunk * spec.dataset.chunk_examples
    percent = spec.validation_percent
    return _end(spec, chunk) * percent // 100 - start * percent // 100


@dataclass(frozen=True)
class Timetable:
    """The optimizer steps of a trial."""

    steps_per_epoch: int
    steps: int

    @classmethod
    def of(cls, spec: JobSpec, recipe: Recipe) -> "Timetable":
        """The steps that the recipe asks for.

        Raises:
            TrainingFailed: steps-exceed-envelope.
        """
        examples = spec.dataset.examples
        trained = examples - examples * spec.validation_percent // 100
        steps_per_epoch = max(1, -(-trained // recipe.batch_size))
        steps = recipe.steps or (recipe.epochs or DEFAULT_EPOCHS) * steps_per_epoch
        if steps * spec.trials > spec.envelope.max_steps:
            raise TrainingFailed(Reason.STEPS_EXCEED_ENVELOPE)
        return cls(steps_per_epoch, steps)

    def due(self, exchange: int, exchanges: int) -> range:
        """Steps before exchange `exchange` of `exchanges`.

        The last exchange, if there is another, has none: what it measures is the final model.
        """
        learning = max(1, exchanges - 1)
        if exchange >= learning:
            return range(self.steps, self.steps)
        return range(exchange * self.steps // learning, (exchange + 1) * self.steps // learning)

    def is_last_learning(self, exchange: int, exchanges: int) -> bool:
        """Whether no exchange after this one has steps."""
        return exchange == max(1, exchanges - 1) - 1
