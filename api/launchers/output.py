"""What an enclave writes to its standard streams, kept in a bounded file of the state directory."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

MAX_LOG_BYTES = 2**20
MAX_LOGS = 500
"""Files kept; the oldest go first."""
_PIECE_BYTES = 16 * 2**10
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_CUT = b"\n(cut here: an enclave's log is bounded)\n"


async def keep_output(stream: asyncio.StreamReader, path: Path) -> None:
    """Read `stream` to its end; its first `MAX_LOG_BYTES` go into `path`, which only we can read.

    The rest is read and dropped, as a full pipe would stop the enclave; all of it where the disk is full.
    """
    room = MAX_LOG_BYTES
    with suppress(OSError), os.fdopen(os.open(path, _NEW_FILE, 0o600), "wb", buffering=0) as file:
        while piece := await stream.read(_PIECE_BYTES):
            file.write(piece[:room])
            room -= len(piece)
            if room <= 0:
                file.write(_CUT)
                break
    while await stream.read(_PIECE_BYTES):
        pass


def prune_logs(folder: Path) -> None:
    """Remove the oldest logs, so that one more can be written."""
    logs = sorted(folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
    for log in logs[: max(0, len(logs) - MAX_LOGS + 1)]:
        log.unlink(missing_ok=True)
