"""Resource limits and inherited descriptors of the worker process."""

import os
import resource
from contextlib import suppress

_FIRST_OTHER = 3
_MOST_DESCRIPTORS = 1 << 16


def close_inherited() -> None:
    """Close every descriptor but standard input, output and error, whoever left it open."""
    os.closerange(_FIRST_OTHER, _MOST_DESCRIPTORS)


def limit(address_space_bytes: int | None) -> None:
    """No core file, no file written, no descriptor opened; and so much address space, if it is known."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _FIRST_OTHER)
    if address_space_bytes is not None:
        _lower(resource.RLIMIT_AS, address_space_bytes)


def address_space() -> int | None:
    """Bytes of it in use, where the system tells."""
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
