"""What a worker process gives up before it touches anything hostile.

There are two sorts of workers: the one that runs builders, for which this is the second wall behind the
WebAssembly engine, and the one that runs graphs (`chiron.runtime.engine`), for which it is the first.

Each measure is applied where the kernel has it. A LibOS (Occlum) has neither seccomp nor Landlock and
answers ENOSYS: there the wall is the enclave's own, and a process apart.
"""

import ctypes
import mmap
import os
import resource
from contextlib import suppress
from dataclasses import dataclass

from chiron.wasm_sandbox.confinement.kernel import (
    filter_by_seccomp,
    forbid_dumps,
    protect_memory,
    restrict_by_landlock,
)

_CLOSED = mmap.PROT_READ | mmap.PROT_EXEC
_FIRST_OTHER = 3
_MOST_DESCRIPTORS = 1 << 16


@dataclass(frozen=True)
class Confinement:
    """What is in force."""

    landlock: bool
    """No file, no TCP port, no other domain's abstract socket or process can be reached."""
    seccomp: bool
    """Only the system calls of computing, and reading and writing the pipes, are left."""


def confine(
    *, memory_bytes: int, executable_memory: bool, threads: bool = True, output: int = 1
) -> Confinement:
    """Give up all that computing does not need, for good. Call it before any thread is started,
    and after all imports.

    Args:
        memory_bytes: address space that may be added.
        executable_memory: whether machine code is going to be loaded.
        threads: whether it may start any. An enclave has few, and one that takes all ends the others.
        output: the descriptor that answers are written to.
    """
    forbid_writable_code()
    forbid_dumps()
    used = address_space()
    restricted = restrict_by_landlock()
    limit_resources(None if used is None else used + memory_bytes)
    return Confinement(
        restricted, filter_by_seccomp(executable_memory=executable_memory, threads=threads, output=output)
    )


def close_others(first: int = _FIRST_OTHER) -> None:
    """Close every descriptor from `first` on, whoever left it open: all but input, output and error."""
    os.closerange(first, _MOST_DESCRIPTORS)


def limit_resources(address_space_bytes: int | None) -> None:
    """Forbid core files, written files and new descriptors, and bound the address space, if that is known."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _FIRST_OTHER)
    if address_space_bytes is not None:
        _lower(resource.RLIMIT_AS, address_space_bytes)


def address_space() -> int | None:
    """Bytes of address space in use, where the system tells."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - importing pathlib takes a tenth of a start
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


def _lower(which: int, value: int) -> None:
    # A LibOS may not know a limit: its own are in force then.
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))


def forbid_writable_code() -> None:
    """Take the right to write from every page that may be executed: an interpreter has one.

    libffi writes its trampolines for `ctypes` callbacks into such a page. All callbacks that the engine
    needs exist once its module is imported, so call this after that; making another one would crash.
    """
    for start, length in writable_code():
        protect_memory(ctypes.c_void_p(start), length, _CLOSED)


def writable_code() -> list[tuple[int, int]]:
    """Start and length of each such region; none where the system does not tell."""
    found = []
    with suppress(OSError, ValueError), open("/proc/self/maps") as file:  # noqa: PTH123 - as above
        for line in file:
            addresses, rights = line.split()[:2]
            if "w" in rights and "x" in rights:
                start, end = (int(address, 16) for address in addresses.split("-"))
                found.append((start, end - start))
    return found
