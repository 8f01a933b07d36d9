"""Examples in memory: which rows are held out for validation, and which make up each step's batch.

The examples of several small batches are gathered at once: few calls of NumPy, in bounded memory.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import Examples
from chiron.runtime.training.losses import TargetEncoder
from chiron.runtime.training.partition import Partition
from chiron.runtime.training.seeds import Seeds
from chiron.wire.contract import Oblivious
from chiron.wire.datasets import DatasetManifest

NOTHING = Examples(np.empty(0), np.empty(0))
GATHERED_BYTES = 2**20
"""The inputs that are gathered at a time; one batch where that is larger."""


class Batch(NamedTuple):
    """Rows of a portion that a step trains on."""

    step: int
    rows: NDArray[np.int64]


class Portion(NamedTuple):
    """Examples in memory, and the batches to make of them."""

    examples: Examples
    batches: Sequence[Batch]


def share(order: NDArray[np.int64], place: int, parts: int) -> NDArray[np.int64]:
    """The `place`-th of `parts` consecutive pieces, whose lengths differ by one at most."""
    return order[place * len(order) // parts : (place + 1) * len(order) // parts]


def held_out(partition: Partition, position: int, examples: Examples, seeds: Seeds) -> NDArray[np.bool_]:
    """A mask [n] of the validation rows in the partition's chunk at `position`."""
    generator = seeds.generator("validation", partition.chunks[position])
    count = partition.validation_rows[position]
    if partition.oblivious is Oblivious.STRICT:
        return unsorted_mask(len(examples.y), count, generator)
    return validation_mask(examples.y, count, generator)


def empty_examples(manifest: DatasetManifest, rows: int) -> Examples:
    """Room for `rows` examples of this dataset."""
    target = np.int64 if manifest.classes else np.float32
    x: NDArray[Any] = np.empty((rows, *manifest.input_shape), manifest.input_dtype.value)
    return Examples(x, np.empty((rows, *manifest.target_shape), target))


def put(into: Examples, place: int, examples: Examples, mask: NDArray[np.bool_]) -> int:
    """Copy the rows of `mask` to `place`; the place after them."""
    end = place + int(mask.sum())
    np.compress(mask, examples.x, axis=0, out=into.x[place:end])
    np.compress(mask, examples.y, axis=0, out=into.y[place:end])
    return end


def validation_mask(y: NDArray[Any], count: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A mask [n] with `count` rows set.

    Systematic sampling: the rows are sorted by target (ties at random) and every n/count-th is taken from a
    random start, so each class, or each range of a regression's first target, is there in proportion.
    """
    mask = np.zeros(len(y), np.bool_)
    if count == 0:
        return mask
    key = y.reshape(len(y), -1)[:, 0]
    order = np.lexsort((generator.random(len(y)), key))
    places = ((np.arange(count) + generator.random()) * len(y) / count).astype(np.int64)
    mask[order[np.minimum(places, len(y) - 1)]] = True
    return mask


def unsorted_mask(rows: int, count: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A mask [rows] with `count` rows set at random, whatever they are: sorting goes where targets say."""
    mask = np.zeros(rows, np.bool_)
    mask[generator.permutation(rows)[:count]] = True
    return mask


class Gathered(NamedTuple):
    """Examples of consecutive steps, one step's after the other's."""

    steps: Sequence[tuple[int, slice]]
    """Each step's number and rows."""
    x: NDArray[Any]
    """[n, …]; a copy that may be changed."""
    y: NDArray[Any]
    """[n, …]"""
    dense: NDArray[np.float32]
    """Dense targets [n, …] made of `y`; used up by the step that trains on them."""


def gather(portion: Portion, encoder: TargetEncoder) -> Iterator[Gathered]:
    """The batches of a portion, in order."""
    x, y = portion.examples
    bytes_per_row = max(1, x[:1].nbytes)
    for group in _groups(portion.batches, max(1, GATHERED_BYTES // bytes_per_row)):
        rows = np.concatenate([batch.rows for batch in group])
        ends = np.cumsum([len(batch.rows) for batch in group]).tolist()
        spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        steps = [(batch.step, span) for batch, span in zip(group, spans, strict=True)]
        chosen = y[rows]
        yield Gathered(steps, np.take(x, rows, axis=0), chosen, encoder.dense(chosen))


def _groups(batches: Sequence[Batch], most: int) -> Iterator[Sequence[Batch]]:
    """Consecutive batches of at most `most` rows together, one at least."""
    start, rows = 0, 0
    for number, batch in enumerate(batches):
        if number > start and rows + len(batch.rows) > most:
            yield batches[start:number]
            start, rows = number, 0
        rows += len(batch.rows)
    if start < len(batches):
        yield batches[start:]
