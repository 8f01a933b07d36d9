"""Datasets of one shape that differ in every way that could leave a mark."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.traffic.world import digits

__all__ = ["Arrays", "all_zero", "digits", "one_class_but_for_one_row_each", "shuffled_labels"]

Arrays: TypeAlias = tuple[NDArray[Any], NDArray[Any]]


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
