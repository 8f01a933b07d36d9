"""A part larger than memory: read again before each exchange, a window of chunks at a time.

Before an exchange all chunks are read, in an order that is public, and of each chunk the piece is used whose
turn it is: with as many epochs as exchanges that is the whole chunk, with half as many one half of its rows,
chosen by the seed. Rows are mixed within a window.
"""

from collections.abc import AsyncIterator, Sequence

import numpy as np

from chiron.runtime.datasets import EncryptedDataset, Examples
from chiron.runtime.training.feed import NOTHING, Batch, Portion, empty_examples, held_out, put, share
from chiron.runtime.training.reading import holding_pass, streaming_pass
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.timetable import EpochShare, Part, Timetable

WINDOW_BYTES = 64 * 2**20
"""Plaintext of the chunks whose rows are mixed."""


class StreamedFeed:
    """Memory holds the validation rows, a window, and what the reader has fetched ahead."""

    def __init__(self, part: Part, timetable: Timetable, seeds: Seeds) -> None:
        self._part = part
        self._timetable = timetable
        self._seeds = seeds
        self._window = max(1, WINDOW_BYTES // part.chunk_bytes)
        self.validation = NOTHING
        self._begun = False

    async def portions(self, dataset: EncryptedDataset, exchange: int) -> AsyncIterator[Portion]:
        """A portion a window; the last may be empty."""
        if not self._begun:
            self.validation = await self._hold_out(dataset)
            self._begun = True
        piece = self._timetable.share(exchange)
        cutter = _Cutter(self._expected(piece), self._timetable.steps_in(piece) if piece else range(0))
        window: list[Examples] = []
        numbers = streaming_pass(self._part, exchange)
        done = 0
        async for examples in dataset.read(numbers):
            if piece is not None:
                window.append(self._piece(numbers[done], examples, piece))
            done += 1
            if len(window) == self._window:
                yield cutter.cut(window, self._seeds.generator("window", exchange, done))
                window = []
        yield cutter.cut(window, self._seeds.generator("window", exchange, done))

    async def _hold_out(self, dataset: EncryptedDataset) -> Examples:
        validation = empty_examples(dataset, sum(self._part.validation_rows))
        place, position = 0, 0
        async for examples in dataset.read(holding_pass(self._part)):
            mask = held_out(self._part, position, examples, self._seeds)
            place = put(validation, place, examples, mask)
            position += 1
        return validation

    def _expected(self, piece: EpochShare | None) -> int:
        """Rows that this piece of an epoch has."""
        if piece is None:
            return 0
        return sum(len(share(np.arange(n), piece.place, piece.parts)) for n in self._part.training_rows)

    def _piece(self, number: int, examples: Examples, piece: EpochShare) -> Examples:
        """The rows of a chunk whose turn it is in this epoch."""
        position = self._part.chunks.index(number)
        training = np.flatnonzero(~held_out(self._part, position, examples, self._seeds))
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
