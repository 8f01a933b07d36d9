"""Directories for one user: made so, closed where they stand open, refused where they are another's.

While one stood open, others may have put into it what we would take for ours: that is refused too.
"""

import logging
import os
from pathlib import Path

from chiron.wire.errors import ChironError

_LOG = logging.getLogger(__name__)
_OTHERS = 0o077


class DirectoryNotOurs(ChironError):
    """A directory for secrets, or what lies in it, is another user's, who can put there what they like."""

    code = "directory-not-ours"


def private_directory(path: Path) -> Path:
    """`path`, which nobody but this user reads or writes; made if need be.

    A directory that is there already and open to others is closed, with a warning: they may have read it.

    Raises:
        DirectoryNotOurs: another user owns it.
        OSError: it cannot be made, or is no directory.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # By a descriptor, so that what is looked at is what is changed.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise DirectoryNotOurs(f"{path} belongs to another user: take a directory of your own")
        if found.st_mode & _OTHERS:
            os.fchmod(descriptor, found.st_mode & 0o700)
            _LOG.warning("closed a directory that other users could open", extra={"directory": str(path)})
    finally:
        os.close(descriptor)
    return path


def refuse_planted(path: Path) -> None:
    """Refuse a directory of ours, closed by now, into which others have put a link or something of theirs.

    A link leads what we write, keys with it, to wherever its maker chose. A file of theirs stays theirs to
    write, however closed the directory is.

    Raises:
        DirectoryNotOurs: naming the first of such entries.
    """
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise DirectoryNotOurs(f"{entry.path} is a symbolic link: put there what it leads to")
            if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                raise DirectoryNotOurs(f"{entry.path} belongs to another user: look at it, then remove it")
