"""The examples of several steps at once: few calls of NumPy for many small batches, in bounded memory."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.training.feed import Batch, Portion
from chiron.runtime.training.losses import TargetEncoder

GATHERED_BYTES = 2**20
"""Of inputs at a time, or one batch where that is larger."""


class Gathered(NamedTuple):
    """Examples of consecutive steps, one step's after the other's."""

    steps: Sequence[tuple[int, slice]]
    """Each step's number and rows."""
    x: NDArray[Any]
    """[n, …]; a copy that may be changed."""
    y: NDArray[Any]
    """[n, …]"""
    dense: NDArray[np.float32]
    """`y` as dense targets [n, …]; used up by the step that trains on them."""


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
