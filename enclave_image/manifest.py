"""What an image is: every file in it, what is started and with which environment; and what lies beside it.

    root/                  the enclave's whole file system
    manifest.json          an `ImageManifest`
    sbom.cdx.json          CycloneDX bill of materials: it describes, it is not run
    inclusion-proof.json   that its build is in a transparency log; an Occlum instance has it too

Only the manifest is measured. A gateway hands the proof to owners whose policy demands it, and they check it
under the log's key, which they have from elsewhere.
"""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from chiron.enclave_image.errors import ImageInvalid, LogCorrupted
from chiron.wire.bounded import read_file
from chiron.wire.encoding import Digest, WireModel, canonical_json
from chiron.wire.errors import LimitExceeded
from chiron.wire.transparency import InclusionProof

ROOT = "root"
MANIFEST = "manifest.json"
SBOM = "sbom.cdx.json"
INCLUSION_PROOF = "inclusion-proof.json"
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_PROOF_BYTES = 64 * 1024

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
        """Bytes of all files together."""
        return sum(entry.size for entry in self.entries if isinstance(entry, File))

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(isinstance(entry, File) for entry in self.entries)


def read_manifest(directory: Path) -> ImageManifest:
    """The manifest as it was written at build.

    Raises:
        ImageInvalid: there is none, or it is malformed.
    """
    try:
        return ImageManifest.model_validate_json(read_file(directory / MANIFEST, MAX_MANIFEST_BYTES))
    except OSError as error:
        raise ImageInvalid(f"{directory} holds no image; `chiron image build` makes one") from error
    except LimitExceeded as error:
        raise ImageInvalid(f"{MANIFEST} is larger than any image's") from error
    except ValidationError as error:
        raise ImageInvalid(f"{MANIFEST} is not an image's manifest") from error


def write_proof(directory: Path, proof: InclusionProof) -> None:
    """Put it there, in place of an earlier one, whole or not at all."""
    written = directory / f".{INCLUSION_PROOF}.new"
    written.write_text(proof.model_dump_json() + "\n")
    written.replace(directory / INCLUSION_PROOF)


def read_proof(directory: Path) -> InclusionProof | None:
    """The proof beside an image or an Occlum instance; None where it was built without a log.

    It says nothing by itself: `chiron.runtime.transparency.check_inclusion` does.

    Raises:
        LogCorrupted: the file is there and is no proof.
    """
    try:
        return InclusionProof.model_validate_json(read_file(directory / INCLUSION_PROOF, MAX_PROOF_BYTES))
    except FileNotFoundError:
        return None
    except (LimitExceeded, ValidationError) as error:
        raise LogCorrupted(f"{directory / INCLUSION_PROOF} is no inclusion proof") from error
