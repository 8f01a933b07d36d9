"""A trainer's examples: every one exactly once an epoch, in seeded order, in the public schedule of reads."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import EncryptedDataset, Examples
from chiron.runtime.training.reading import holding_pass
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.splitting import validation_mask
from chiron.runtime.training.timetable import Part, Timetable


class Batch(NamedTuple):
    """Rows of a portion that a step trains on."""

    step: int
    rows: NDArray[np.int64]


class Portion(NamedTuple):
    """Examples in memory, and the batches to make of them."""

    examples: Examples
    batches: Sequence[Batch]


class Feed(Protocol):
    """Where examples come from."""

    validation: Examples
    """Rows held out of training; empty until they are read, before the first portion."""

    def portions(self, dataset: EncryptedDataset, exchange: int) -> AsyncIterator[Portion]:
        """What is due before an exchange: one portion at least, maybe without batches.

        Raises:
            DatasetError: a chunk is not the owner's.
        """


NOTHING = Examples(np.empty(0), np.empty(0))


class InMemoryFeed:
    """A part that fits in memory: read once, shuffled as a whole every epoch."""

    def __init__(self, part: Part, timetable: Timetable, seeds: Seeds) -> None:
        self._part = part
        self._timetable = timetable
        self._seeds = seeds
        self._training: Examples | None = None
        self.validation = NOTHING

    async def portions(self, dataset: EncryptedDataset, exchange: int) -> AsyncIterator[Portion]:
        """One portion: all examples."""
        if self._training is None:
            self._training, self.validation = await self._load(dataset)
        yield Portion(self._training, self._batches(self._timetable.due(exchange), len(self._training.x)))

    async def _load(self, dataset: EncryptedDataset) -> tuple[Examples, Examples]:
        part = self._part
        training = empty_examples(dataset, sum(part.training_rows))
        validation = empty_examples(dataset, sum(part.validation_rows))
        place, held = 0, 0
        position = 0
        async for examples in dataset.read(holding_pass(part)):
            mask = held_out(part, position, examples, self._seeds)
            place = put(training, place, examples, ~mask)
            held = put(validation, held, examples, mask)
            position += 1
        return training, validation

    def _batches(self, due: range, rows: int) -> list[Batch]:
        if rows == 0:
            return []
        batches: list[Batch] = []
        per_epoch = self._timetable.steps_per_epoch
        order = np.empty(0, np.int64)
        for step in due:
            epoch, place = divmod(step, per_epoch)
            if not len(order) or place == 0:
                order = self._seeds.generator("order", epoch).permutation(rows)
            batch = share(order, place, per_epoch)
            if len(batch):
                batches.append(Batch(step, batch))
        return batches


def share(order: NDArray[np.int64], place: int, parts: int) -> NDArray[np.int64]:
    """The `place`-th of `parts` consecutive pieces, whose lengths differ by one at most."""
    return order[place * len(order) // parts : (place + 1) * len(order) // parts]


def held_out(part: Part, position: int, examples: Examples, seeds: Seeds) -> NDArray[np.bool_]:
    """Which rows [n] of the part's chunk at `position` are for validation."""
    generator = seeds.generator("validation", part.chunks[position])
    return validation_mask(examples.y, part.validation_rows[position], generator)


def empty_examples(dataset: EncryptedDataset, rows: int) -> Examples:
    """Room for `rows` examples of this dataset."""
    manifest = dataset.manifest
    target = np.int64 if manifest.classes else np.float32
    x: NDArray[Any] = np.empty((rows, *manifest.input_shape), manifest.input_dtype.value)
    return Examples(x, np.empty((rows, *manifest.target_shape), target))


def put(into: Examples, place: int, examples: Examples, mask: NDArray[np.bool_]) -> int:
    """Copy the rows of `mask` to `place`; the place after them."""
    end = place + int(mask.sum())
    np.compress(mask, examples.x, axis=0, out=into.x[place:end])
    np.compress(mask, examples.y, axis=0, out=into.y[place:end])
    return end
