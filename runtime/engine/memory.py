"""The arrays that a learner and its parent both see: the vector, the one adopted last, and a chunk's rows.

Where the system has anonymous files (`memfd_create`), both sides map one. Its size is sealed, so that an
engine that was taken over cannot shrink it under its parent, whose access would then be fatal. Elsewhere
(Occlum has none) each side has arrays of its own, and what changed goes over the channel.

Whatever lies in shared memory the other side may change at any time. So the parent takes nothing from it but
numbers, each once, and checks what it has made of them.
"""

import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets.chunks import ChunkForm, Examples
from chiron.wire.jobs import JobSpec

_ALIGNMENT = 64


def anonymous_file() -> int | None:
    """A descriptor of memory without a name, of no size yet; None where the system has no such thing."""
    create: Callable[[str, int], int] | None = getattr(os, "memfd_create", None)
    if create is None:
        return None
    try:
        return create("engine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None


class RowsForm:
    """How rows lie in a buffer: targets first, then inputs, each in room for a whole chunk."""

    def __init__(self, spec: JobSpec) -> None:
        form = ChunkForm.of(spec.dataset)
        self._most = form.rows
        self._y = (form.target_dtype, form.target_shape)
        self._x = (np.dtype(form.input_dtype.value), form.input_shape)
        self._inputs_at = _aligned(self._bytes(self._y, self._most))
        self.size = self._inputs_at + self._bytes(self._x, self._most)
        """Bytes of the buffer."""

    def write(self, buffer: memoryview, examples: Examples) -> None:
        """Lay a chunk's rows into the buffer."""
        into = self.read(buffer, len(examples.x))
        into.x[...] = examples.x
        into.y[...] = examples.y

    def read(self, buffer: memoryview, count: int) -> Examples:
        """Views of the buffer's first `count` rows.

        Raises:
            ValueError: there is no room for so many.
        """
        if not 0 <= count <= self._most:
            raise ValueError("more rows than a chunk has")
        return Examples(
            self._view(buffer, self._x, self._inputs_at, count), self._view(buffer, self._y, 0, count)
        )

    @staticmethod
    def _bytes(kind: tuple[np.dtype[Any], tuple[int, ...]], count: int) -> int:
        return kind[0].itemsize * prod(kind[1]) * count

    @staticmethod
    def _view(
        buffer: memoryview, kind: tuple[np.dtype[Any], tuple[int, ...]], at: int, count: int
    ) -> NDArray[Any]:
        dtype, shape = kind
        return np.frombuffer(buffer, dtype, count * prod(shape), at).reshape(count, *shape)


class LearnersMemory:
    """The arrays themselves, on one side."""

    def __init__(self, spec: JobSpec, descriptor: int | None, *, sealing: bool = False) -> None:
        """Arrays in the anonymous file `descriptor`, or this side's own.

        Args:
            spec: the job, whose public sizes are the arrays'.
            descriptor: of the anonymous file; it may be closed afterwards.
            sealing: give the file its size first, for good.
        """
        self.rows_form = RowsForm(spec)
        vector = _aligned(4 * spec.exchange.parameters)
        size = 2 * vector + self.rows_form.size
        self.shared = descriptor is not None
        """Whether the other side sees the same."""
        if descriptor is None:
            whole = memoryview(bytearray(size))
        else:
            if sealing:
                os.ftruncate(descriptor, size)
                # Without seals (an old kernel), one that may not make the call cannot shrink it either.
                with suppress(OSError):
                    fcntl.fcntl(
                        descriptor,
                        fcntl.F_ADD_SEALS,
                        fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
                    )
            whole = memoryview(mmap.mmap(descriptor, size))
        self.vector = np.frombuffer(whole, np.float32, spec.exchange.parameters)
        """[parameters] The vector that training changes in place."""
        self.adopted = np.frombuffer(whole, np.float32, spec.exchange.parameters, vector)
        """[parameters] The vector that was adopted last."""
        self.rows = whole[2 * vector :]
        """A chunk's rows (`rows_form`)."""


def as_bytes(array: NDArray[Any]) -> memoryview:
    """A contiguous array's bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
