"""Images with a changed file: as a careless host leaves them, and as one that makes the rest fit."""

import os
import shutil
from pathlib import Path, PurePosixPath

from chiron.enclave_image import start
from chiron.enclave_image.build import write_entry_program
from chiron.enclave_image.manifest import ROOT


def copied(image: Path, directory: Path) -> Path:
    """A copy whose files are the image's own until `replace` puts others there."""
    shutil.copytree(image, directory, symlinks=True, copy_function=os.link)
    return directory


def inside(image: Path, path: PurePosixPath) -> Path:
    """Where a path of the image lies here."""
    return image / ROOT / path.relative_to("/")


def replace(path: Path, content: bytes) -> None:
    """Another file in its place, or a new one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def make_it_start(image: Path) -> None:
    """List the files as they are now, and compile an entry program for that list: another measurement."""
    for written in (start.LIST, start.ENTRY_PROGRAM):
        inside(image, PurePosixPath(written)).unlink()
    inside(image, PurePosixPath(start.ENTRY_PROGRAM)).parent.rmdir()
    write_entry_program(image / ROOT)
