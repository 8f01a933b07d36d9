"""What an image is: every file in it, what is started and with which environment; and its measurement.

An image directory holds

    root/            the enclave's whole file system
    manifest.json    an `ImageManifest`
    sbom.cdx.json    CycloneDX bill of materials (not measured: it describes, it is not run)
"""

import hashlib
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from chiron.wire.encoding import Digest, WireModel, canonical_json

ROOT = "root"
MANIFEST = "manifest.json"
SBOM = "sbom.cdx.json"

_MEASUREMENT_LABEL = b"chiron/v1/image-measurement\0"

ImagePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$", max_length=4096)]


class Folder(WireModel):
    """A directory; every one has mode 0755."""

    kind: Literal["folder"] = "folder"
    path: ImagePath


class File(WireModel):
    """A regular file; mode 0755 if executable, else 0644."""

    kind: Literal["file"] = "file"
    path: ImagePath
    executable: bool
    size: int = Field(ge=0)
    sha256: Digest


class Link(WireModel):
    """A symbolic link."""

    kind: Literal["link"] = "link"
    path: ImagePath
    target: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


Entry = Annotated[Folder | File | Link, Field(discriminator="kind")]


class ImageManifest(WireModel):
    """The image. Its canonical JSON is what is measured."""

    version: Literal[1] = 1
    entry_point: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]
    """Program (an absolute path in the image) and arguments of every role."""
    environment: dict[str, str]
    """All variables that an enclave has, but for the launch specification."""
    entries: tuple[Entry, ...]
    """Everything under `root/`, sorted by path."""

    @model_validator(mode="after")
    def _sorted_and_normal(self) -> Self:
        paths = [entry.path for entry in self.entries]
        if paths != sorted(set(paths)):
            raise ValueError("entries are not sorted by path, or a path is there twice")
        if any(str(PurePosixPath(path)) != path or ".." in PurePosixPath(path).parts for path in paths):
            raise ValueError("a path is not in its normal form")
        return self

    @property
    def measurement(self) -> str:
        """SHA-256 over the label and the canonical JSON (RFC 8785) of this manifest, 64 hex digits."""
        return hashlib.sha256(_MEASUREMENT_LABEL + canonical_json(self)).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries if isinstance(entry, File))

    @property
    def files(self) -> int:
        """How many there are."""
        return sum(isinstance(entry, File) for entry in self.entries)
