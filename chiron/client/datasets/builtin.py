"""Small real data sets that come with scikit-learn, by name: `sklearn:digits` and its neighbours."""

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.arrays import ArraySource
from chiron.client.errors import SourceInvalid
from chiron.wire.contract import Task

PREFIX = "sklearn:"
NAMES = ("digits", "iris", "wine", "breast_cancer", "diabetes")


def builtin_source(name: str) -> ArraySource:
    """The data set that a name such as `sklearn:digits` stands for.

    Digits are 1,797 images [1, 8, 8] in float32 from 0 to 1; the others are tables of float32 columns.

    Raises:
        SourceInvalid: there is none of that name, or scikit-learn is not installed.
    """
    chosen = name.removeprefix(PREFIX)
    if chosen not in NAMES:
        raise SourceInvalid(
            f"no built-in data set {name!r}: there are {', '.join(PREFIX + n for n in NAMES)}"
        )
    try:
        from sklearn import datasets
    except ImportError as error:
        raise SourceInvalid("the built-in data sets need scikit-learn: pip install scikit-learn") from error
    loaded = getattr(datasets, f"load_{chosen}")()
    names = [str(label) for label in getattr(loaded, "target_names", [])]
    x: NDArray[np.float32] = np.asarray(loaded.data, np.float32)
    if chosen == "digits":
        x = (x / np.float32(16)).reshape(-1, 1, 8, 8)
    if chosen == "diabetes":
        return ArraySource(x, loaded.target.astype(np.float32), task=Task.REGRESSION)
    return ArraySource(x, loaded.target, class_names=names)
