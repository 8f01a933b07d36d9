"""The measurement of an image directory, from its content as it is now.

Nothing that was written down at build is believed but the entry point and the environment, and those are
measured with the files: whoever changes a byte, a mode, a name or a variable has another measurement.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from enclave_image.errors import ImageInvalid
from enclave_image.manifest import MANIFEST, ROOT, Entry, File, Folder, ImageManifest, Link

MAX_MANIFEST_BYTES = 16 * 2**20


def measure(directory: Path) -> str:
    """Measurement of the image in `directory`: 64 hex digits, MRENCLAVE's counterpart.

    Raises:
        ImageInvalid: there is no image, or it holds what no image may hold.
    """
    return examine(directory).measurement


def examine(directory: Path) -> ImageManifest:
    """The manifest that the image's content has now, whatever its manifest file says of files.

    Raises:
        ImageInvalid: as `measure`.
    """
    recorded = read_manifest(directory)
    entries = tuple(list_entries(directory / ROOT))
    return recorded.model_copy(update={"entries": entries})


def read_manifest(directory: Path) -> ImageManifest:
    """The manifest as it was written at build.

    Raises:
        ImageInvalid: there is none, or it is malformed.
    """
    try:
        with (directory / MANIFEST).open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ImageInvalid(f"{directory} holds no image: {MANIFEST} cannot be read") from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise ImageInvalid(f"{MANIFEST} is larger than any image's")
    try:
        return ImageManifest.model_validate_json(content)
    except ValidationError as error:
        raise ImageInvalid(f"{MANIFEST} is not an image's manifest") from error


def list_entries(root: Path) -> Iterator[Entry]:
    """Every entry under `root`, sorted by path, files hashed.

    Raises:
        ImageInvalid: a device, socket, set-user-ID file or other thing that no image may hold.
    """
    if not root.is_dir():
        raise ImageInvalid(f"{root} is not a directory")
    yield from sorted(_walk(root, ""), key=lambda entry: entry.path)


def _walk(folder: Path, prefix: str) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for item in found:
            path = f"{prefix}/{item.name}"
            if item.is_symlink():
                yield Link(path=path, target=str(Path(item.path).readlink()))
            elif item.is_dir():
                yield Folder(path=path)
                yield from _walk(Path(item.path), path)
            else:
                yield _file(Path(item.path), path)


def _file(file: Path, path: str) -> File:
    with file.open("rb") as content:
        status = os.fstat(content.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            raise ImageInvalid(f"{path}: an image holds plain files, folders and links only")
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    executable = bool(status.st_mode & stat.S_IXUSR)
    return File(path=path, executable=executable, size=status.st_size, sha256=sha256)
