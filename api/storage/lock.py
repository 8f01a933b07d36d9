"""One gateway a state directory: a second would take the first one's jobs for dead, and its socket away."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chiron.api.errors import StorageInUse


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process. The kernel lets go of it however the process ends.

    Raises:
        StorageInUse: another process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageInUse("another gateway runs in this state directory") from error
        yield
    finally:
        os.close(descriptor)
