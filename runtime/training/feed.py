"""A trainer's examples: every one exactly once an epoch, in seeded order, as the schedule brings them.

Which chunks are read when is public, and not decided here (`chiron.runtime.training.partition`): rows come
chunk by chunk, all those that are due before an exchange, in order.

A partition that fits in memory is read once and shuffled as a whole. A larger one is streamed: read again
before each exchange, a window of chunks at a time, in an order that is public. Of each chunk the piece is
used whose turn it is: with as many epochs as exchanges that is the whole chunk, with half as many one half of
its rows, chosen by the seed. Rows are mixed within a window.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

from chiron.runtime.datasets import Examples
from chiron.runtime.training.allocation import EpochShare, StepAllocation, rows_in
from chiron.runtime.training.batches import (
    NOTHING,
    Batch,
    Portion,
    empty_examples,
    held_out,
    put,
    share,
)
from chiron.runtime.training.partition import WINDOW_BYTES, Partition, due_chunks, streaming_pass
from chiron.runtime.training.seeds import Seeds
from chiron.wire.datasets import DatasetManifest


class Feed(Protocol):
    """A source of examples."""

    validation: Examples
    """Rows held out of training; empty until they are read, before the first portion."""

    def due(self, exchange: int) -> Sequence[int]:
        """Numbers of the chunks whose rows `portions` takes before this exchange, in order."""

    def portions(self, rows: Iterator[Examples], exchange: int) -> Iterator[Portion]:
        """The portions due before an exchange: one at least, maybe without batches."""


class InMemoryFeed:
    """A partition that fits in memory: read once, shuffled as a whole every epoch."""

    def __init__(
        self, partition: Partition, allocation: StepAllocation, seeds: Seeds, manifest: DatasetManifest
    ) -> None:
        self._partition = partition
        self._allocation = allocation
        self._seeds = seeds
        self._manifest = manifest
        self._training: Examples | None = None
        self.validation = NOTHING

    def due(self, exchange: int) -> Sequence[int]:
        """All chunks before the first exchange, and none later."""
        return due_chunks(self._partition, exchange, first=self._training is None)

    def portions(self, rows: Iterator[Examples], exchange: int) -> Iterator[Portion]:
        """One portion: all examples."""
        if self._training is None:
            self._training, self.validation = self._load(rows)
        yield Portion(self._training, self._batches(self._allocation.due(exchange), len(self._training.x)))

    def _load(self, rows: Iterator[Examples]) -> tuple[Examples, Examples]:
        partition = self._partition
        training = empty_examples(self._manifest, sum(partition.training_rows))
        validation = empty_examples(self._manifest, sum(partition.validation_rows))
        place, held = 0, 0
        for position, examples in enumerate(islice(rows, len(partition.chunks))):
            mask = held_out(partition, position, examples, self._seeds)
            place = put(training, place, examples, ~mask)
            held = put(validation, held, examples, mask)
        return training, validation

    def _batches(self, due: range, rows: int) -> list[Batch]:
        if rows == 0:
            return []
        batches: list[Batch] = []
        per_epoch = self._allocation.steps_per_epoch
        order = np.empty(0, np.int64)
        for step in due:
            epoch, place = divmod(step, per_epoch)
            if not len(order) or place == 0:
                order = self._seeds.generator("order", epoch).permutation(rows)
            batch = share(order, place, per_epoch)
            if len(batch):
                batches.append(Batch(step, batch))
        return batches


class StreamedFeed:
    """Memory holds the validation rows and a window."""

    def __init__(
        self, partition: Partition, allocation: StepAllocation, seeds: Seeds, manifest: DatasetManifest
    ) -> None:
        self._partition = partition
        self._allocation = allocation
        self._seeds = seeds
        self._manifest = manifest
        self._window = max(1, WINDOW_BYTES // partition.chunk_bytes)
        self.validation = NOTHING
        self._begun = False

    def due(self, exchange: int) -> Sequence[int]:
        """All chunks before each exchange; before the first twice."""
        return due_chunks(self._partition, exchange, first=not self._begun)

    def portions(self, rows: Iterator[Examples], exchange: int) -> Iterator[Portion]:
        """A portion a window; the last may be empty."""
        if not self._begun:
            self.validation = self._hold_out(rows)
            self._begun = True
        piece = self._allocation.share(exchange)
        expected = rows_in(self._partition, piece) if piece else 0
        cutter = _Cutter(expected, self._allocation.steps_in(piece) if piece else range(0))
        window: list[Examples] = []
        numbers = streaming_pass(self._partition, exchange)
        done = 0
        for examples in islice(rows, len(numbers)):
            if piece is not None:
                window.append(self._piece(numbers[done], examples, piece))
            done += 1
            if len(window) == self._window:
                yield cutter.cut(window, self._seeds.generator("window", exchange, done))
                window = []
        yield cutter.cut(window, self._seeds.generator("window", exchange, done))

    def _hold_out(self, rows: Iterator[Examples]) -> Examples:
        validation = empty_examples(self._manifest, sum(self._partition.validation_rows))
        place = 0
        for position, examples in enumerate(islice(rows, len(self._partition.chunks))):
            mask = held_out(self._partition, position, examples, self._seeds)
            place = put(validation, place, examples, mask)
        return validation

    def _piece(self, number: int, examples: Examples, piece: EpochShare) -> Examples:
        """The rows of a chunk whose turn it is in this epoch."""
        position = self._partition.chunks.index(number)
        training = np.flatnonzero(~held_out(self._partition, position, examples, self._seeds))
        order = self._seeds.generator("pieces", piece.epoch, number).permutation(training)
        rows = share(order, piece.place, piece.parts)
        return Examples(examples.x[rows], examples.y[rows])


class _Cutter:
    """Cuts a stream of `rows` rows into one batch a step, whose sizes differ by one at most."""

    def __init__(self, rows: int, steps: range) -> None:
        self._rows = rows
        self._steps = steps
        self._cut = 0
        """Batches made."""
        self._rest = NOTHING

    def cut(self, window: Sequence[Examples], generator: np.random.Generator) -> Portion:
        """Mix the rows of a window, and make the batches that are complete with it."""
        if not window:
            return Portion(self._rest, [])
        fresh = Examples(*(np.concatenate(arrays) for arrays in zip(*window, strict=True)))
        order = generator.permutation(len(fresh.x))
        fresh = Examples(fresh.x[order], fresh.y[order])
        if len(self._rest.x):
            fresh = Examples(*(np.concatenate(arrays) for arrays in zip(self._rest, fresh, strict=True)))
        start = self._boundary(self._cut)
        batches: list[Batch] = []
        while self._cut < len(self._steps) and self._boundary(self._cut + 1) <= start + len(fresh.x):
            first, last = self._boundary(self._cut) - start, self._boundary(self._cut + 1) - start
            if last > first:
                batches.append(Batch(self._steps[self._cut], np.arange(first, last)))
            self._cut += 1
        used = self._boundary(self._cut) - start
        self._rest = Examples(fresh.x[used:].copy(), fresh.y[used:].copy())
        return Portion(fresh, batches)

    def _boundary(self, batch: int) -> int:
        return batch * self._rows // max(len(self._steps), 1)
