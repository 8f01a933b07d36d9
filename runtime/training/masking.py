"""Choices without branches and addresses that values decide: every element is read, computed and written.

NumPy's own `where`, boolean indexing and `all` copy, skip or stop by the values they see, and libm's exp and
log look them up in a table. A host that takes pages away sees which of them are used.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS = {1: np.uint8, 4: np.uint32, 8: np.uint64}
_LOWEST_EXPONENT = -700.0
"""exp of less is 1e-304 here."""
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
"""ln 2 in two parts: a whole number below 2²⁰ times the first is exact."""
_TERMS = 17
"""Enough for float64 where |x| ≤ ln 2 / 2 (exp) or |x| ≤ 1/3 (inverse hyperbolic tangent)."""


def selected(condition: NDArray[np.bool_], first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """`first` where the condition holds, else `second`: of one type and shape, and contiguous."""
    bits = _BITS[first.dtype.itemsize]
    mask = np.negative(condition.astype(bits))
    chosen: NDArray[Any] = ((first.view(bits) & mask) | (second.view(bits) & ~mask)).view(first.dtype)
    return chosen


def kept(condition: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Any]:
    """`values` where the condition holds, else 0, whatever they are (NaN times 0 is NaN)."""
    bits = _BITS[values.dtype.itemsize]
    left: NDArray[Any] = (values.view(bits) & np.negative(condition.astype(bits))).view(values.dtype)
    return left


def all_finite(*arrays: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether all elements are finite, [1]."""
    found = np.ones(1, np.uint8)
    for array in arrays:
        if array.size:
            each = np.isfinite(array).view(np.uint8)
            found &= np.minimum.reduce(each.reshape(-1), keepdims=True)
    return found.view(np.bool_)


def exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """eˣ for x ≤ 0: 2ᵏ times the Taylor series of what remains. NaN where x is."""
    x = np.maximum(x, _LOWEST_EXPONENT)
    k = np.rint(x * (1 / (_LN2_HIGH + _LN2_LOW)))
    rest = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = np.ones_like(rest)
    for n in range(_TERMS, 0, -1):
        total *= rest / n
        total += 1
    # A NaN has no whole number; it is in `total` too.
    exponent = (kept(k == k, k).astype(np.int64) + 1023) << 52
    return total * exponent.view(np.float64)


def log1p(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 + x) for x ≥ 0. NaN where x is, or is infinite."""
    bits = (1 + x).view(np.int64)
    k = ((bits >> 52) - 1023).astype(np.float64)
    scale = ((1023 - k.astype(np.int64)) << 52).view(np.float64)
    # (1 + x)·scale − 1, from x itself, for 1 + x is rounded.
    rest = x * scale + (scale - 1)
    u = rest / (2 + rest)
    square = u * u
    total = np.zeros_like(u)
    for n in range(_TERMS, 0, -1):
        total += 1 / (2 * n + 1)
        total *= square
    return k * _LN2_HIGH + (2 * u * (1 + total) + k * _LN2_LOW)
