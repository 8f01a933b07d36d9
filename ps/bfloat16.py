"""bfloat16 in NumPy: the upper half of a float32, rounded to nearest even."""

import numpy as np
from numpy.typing import NDArray


def narrow(values: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    """Round finite `values` into `out`, bit patterns of the same length."""
    bits = values.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    np.copyto(out, rounded, casting="unsafe")


def widen(patterns: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """The exact float32 values of bfloat16 bit patterns."""
    bits = out.view(np.uint32)
    np.copyto(bits, patterns)
    bits <<= np.uint32(16)
