"""Which examples are trained on and which are held out, and in which order they are read."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.client.errors import SourceInvalid


class Split(NamedTuple):
    """Row numbers of a source, each in one of the two."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split(examples: int, held_out_percent: float, seed: int) -> Split:
    """Shuffle `examples` rows and hold some out: by the seed alone, so that it can be repeated.

    Chunks are dealt to trainers in turn: without shuffling, data that is sorted by class would give each
    trainer other classes.

    Raises:
        SourceInvalid: nothing would be left to train on.
    """
    order = np.random.default_rng(seed).permutation(examples)
    held = round(examples * held_out_percent / 100)
    if not 0 <= held < examples:
        raise SourceInvalid(
            f"holding out {held_out_percent} % of {examples} examples leaves none to train on"
        )
    return Split(train=order[held:], held_out=np.sort(order[:held]))
