"""Which rows of a chunk are for validation: as many as is public, chosen by the seed, stratified."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
