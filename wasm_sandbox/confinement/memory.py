"""Memory that is writable and executable at once: the one page of it that an interpreter has is closed."""

import ctypes
import mmap
from contextlib import suppress

from chiron.wasm_sandbox.confinement.kernel import protect_memory

_CLOSED = mmap.PROT_READ | mmap.PROT_EXEC


def forbid_writable_code() -> None:
    """Take the right to write from every page that may be executed.

    libffi writes its trampolines for `ctypes` callbacks into such a page. All callbacks that the engine
    needs exist once its module is imported, so call this after that; making another one would crash.
    """
    for start, length in writable_code():
        protect_memory(ctypes.c_void_p(start), length, _CLOSED)


def writable_code() -> list[tuple[int, int]]:
    """Start and length of each such region; none where the system does not tell."""
    found = []
    with suppress(OSError, ValueError), open("/proc/self/maps") as file:  # noqa: PTH123 - as in resources
        for line in file:
            addresses, rights = line.split()[:2]
            if "w" in rights and "x" in rights:
                start, end = (int(address, 16) for address in addresses.split("-"))
                found.append((start, end - start))
    return found
