"""One process at a time: a lock by a file, on every system."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PATIENCE_S = 60


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path` while the block lasts; others wait, in this process too. It ends with us.

    It is an empty database: SQLite's locks are the standard library's only ones that work everywhere.

    Raises:
        sqlite3.OperationalError: another has held it for `PATIENCE_S`.
    """
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield
