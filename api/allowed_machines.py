"""The machines that this operator lets owners keep models for: `machines` in the state directory.

An owner who names a machine of her own could take her model there, ask it as often as she likes, and break
that machine to read the weights. So enclaves seal for none that their operator does not name: the SHA-256 of
its key a line, as `chiron machine add` prints it. What follows a `#` is a remark. The file is read at each
launch.
"""

import logging
import re
from pathlib import Path

from chiron.api.settings import Settings

FILE = "machines"
MAX_FILE_BYTES = 2**20
MAX_ALLOWED = 1024
_KEY = re.compile(r"[0-9a-f]{64}")
_LOG = logging.getLogger(__name__)
_HEADER = """\
# Machines that owners may have their models kept for, besides this one: the SHA-256 of each machine's key,
# one a line (`chiron machine add` prints it). Read when a job's enclaves are launched.
"""


def make_file(settings: Settings) -> None:
    """An empty list, where there is none: then a backup can take it along by its name."""
    path = _path(settings)
    if not path.exists():
        path.write_text(_HEADER)


def allowed_machines(settings: Settings) -> tuple[str, ...]:
    """The keys' digests. A line that is none allows nothing, and is told in the log."""
    path = _path(settings)
    if not path.exists() or path.stat().st_size > MAX_FILE_BYTES:
        return ()
    lines = [line.partition("#")[0].strip() for line in path.read_text(errors="replace").splitlines()]
    given = [line for line in lines if line]
    keys = [line for line in given if _KEY.fullmatch(line)]
    if len(keys) < len(given):
        _LOG.warning("lines that name no machine", extra={"file": FILE, "lines": len(given) - len(keys)})
    return tuple(dict.fromkeys(keys))[:MAX_ALLOWED]


def _path(settings: Settings) -> Path:
    return settings.state_dir / FILE
