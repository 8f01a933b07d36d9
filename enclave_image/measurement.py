"""The measurement of an image directory, from its content as it is now.

Nothing that was written down at build is believed but the entry point and the environment, and those are
measured with the files: whoever changes a byte, a mode, a name or a variable has another measurement.
"""

import hashlib
import os
import stat
import subprocess
import tempfile
from pathlib import Path

from pydantic import ValidationError

from chiron.enclave_image.errors import ImageInvalid, ImageUnbuildable
from chiron.enclave_image.manifest import ROOT, Entry, File, Folder, ImageManifest, Link, read_manifest

_BUILD = "import sys, pathlib, chiron.enclave_image.build as b; b.build_image(pathlib.Path(sys.argv[1]))"


def measure(directory: Path) -> str:
    """Measurement of the image in `directory`: 64 hex digits, MRENCLAVE's counterpart.

    Raises:
        ImageInvalid: there is no image, or it holds what no image may hold.
    """
    return examine(directory).measurement


def is_checkout(directory: Path) -> bool:
    """Whether the folder holds our source, and no image."""
    return (directory / "enclave_image" / "build.py").is_file()


def measure_source(directory: Path) -> str:
    """Measurement of the image in `directory`, or of the one that the checkout there makes.

    Raises:
        ImageInvalid: there is neither.
        ImageUnbuildable: a checkout whose packages are not installed, or whose image cannot be built.
    """
    if not is_checkout(directory):
        return measure(directory)
    python = directory / ".venv" / "bin" / "python"
    if not python.exists():
        raise ImageUnbuildable(f"{directory} is a checkout without its packages: run scripts/setup in it")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image")
        # The checkout that was named is what is to be measured: its own code builds its image.
        built = subprocess.run(  # noqa: S603
            [python.absolute(), "-c", _BUILD, image],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            last = built.stderr.strip().splitlines()[-1:] or ["it told nothing"]
            raise ImageUnbuildable(f"the image of {directory} cannot be built: {last[0]}")
        return measure(image)


def examine(directory: Path) -> ImageManifest:
    """The manifest that the image's content has now, whatever its manifest file says of files.

    Raises:
        ImageInvalid: there is no image, or it holds what no image may hold.
    """
    recorded = read_manifest(directory)
    try:
        return recorded.model_copy(update={"entries": list_entries(directory / ROOT)})
    except (OSError, ValidationError) as error:
        raise ImageInvalid(f"{directory} holds what cannot be read or named") from error


def list_entries(root: Path) -> tuple[Entry, ...]:
    """Every entry under `root`, sorted by path, files hashed.

    Raises:
        ImageInvalid: a device, socket, set-user-ID file or other thing that no image may hold.
    """
    if not root.is_dir():
        raise ImageInvalid(f"{root} is not a directory")
    waiting = [str(root)]
    entries: list[Entry] = []
    # Plain strings, as this runs at every launch over thousands of files.
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for item in found:
                path = item.path[len(str(root)) :]
                if item.is_symlink():
                    entries.append(Link(path=path, target=os.readlink(item.path)))  # noqa: PTH115
                elif item.is_dir():
                    entries.append(Folder(path=path))
                    waiting.append(item.path)
                else:
                    entries.append(_file(item.path, path))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _file(file: str, path: str) -> File:
    # Without waiting for a writer, if someone put a pipe there.
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as content:  # noqa: PTH123
        status = os.fstat(content.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            raise ImageInvalid(f"{path}: an image holds plain files, folders and links only")
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    executable = bool(status.st_mode & stat.S_IXUSR)
    return File(path=path, executable=executable, size=status.st_size, sha256=sha256)
