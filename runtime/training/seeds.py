"""Randomness from the job's seed: each use has a generator of its own, named by what it is for.

No generator lives longer than one use, so that a trainer which resumes needs no generator's state.
"""

import hashlib
import json

import numpy as np

_DOMAIN = b"chiron training seed v1"


class Seeds:
    """Derives seeds from `root` and a path of names and numbers: SHA-256 of their JSON."""

    def __init__(self, *root: int | str) -> None:
        self._root = root

    def number(self, *path: int | str) -> int:
        """A number of 256 bits for this path."""
        text = json.dumps([*self._root, *path])
        return int.from_bytes(hashlib.sha256(_DOMAIN + text.encode()).digest(), "big")

    def generator(self, *path: int | str) -> np.random.Generator:
        """A fresh generator for this path (PCG64, the same on every platform)."""
        return np.random.Generator(np.random.PCG64(self.number(*path)))
