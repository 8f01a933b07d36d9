"""Datasets of one shape that differ in every way that could leave a mark."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = tuple[NDArray[Any], NDArray[Any]]


def digits(rows: int = 300) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Some of scikit-learn's handwritten digits: x [rows, 8, 8], y [rows]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images[:rows].astype(np.uint8), data.target[:rows].astype(np.int64)


def shuffled_labels() -> Arrays:
    x, y = digits()
    return x, np.random.default_rng(1).permutation(y)


def all_zero() -> Arrays:
    x, y = digits()
    return np.zeros_like(x), y


def one_class_but_for_one_row_each() -> Arrays:
    x, y = digits()
    lonely = np.zeros_like(y)
    lonely[:10] = np.arange(10)
    return x, lonely
