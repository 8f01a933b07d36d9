"""An encrypted dataset on disk: `manifest.json` and one file a chunk. It holds no key and no plaintext."""

from pathlib import Path

from pydantic import ValidationError

from chiron.client.errors import BundleInvalid
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import sha256_hex

MANIFEST = "manifest.json"


class Bundle:
    """A directory that may be copied anywhere, and uploaded."""

    def __init__(self, root: Path, manifest: DatasetManifest) -> None:
        self.root = root
        self.manifest = manifest

    @classmethod
    def open(cls, root: Path) -> "Bundle":
        """The bundle in a directory; chunks are checked as they are read.

        Raises:
            BundleInvalid: there is no complete one.
        """
        try:
            manifest = DatasetManifest.model_validate_json((root / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise BundleInvalid(f"{root} holds no complete encrypted dataset: no {MANIFEST}") from error
        except (OSError, ValidationError) as error:
            raise BundleInvalid(f"{root / MANIFEST} cannot be read as a manifest") from error
        return cls(root, manifest)

    def chunk(self, number: int) -> bytes:
        """Ciphertext of a chunk.

        Raises:
            BundleInvalid: it is missing or not the one in the manifest.
        """
        path = chunk_path(self.root, number)
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size == self.manifest.chunk_ciphertext_bytes else b""
        except OSError as error:
            raise BundleInvalid(f"{path} cannot be read") from error
        if sha256_hex(data) != self.manifest.chunk_sha256[number]:
            raise BundleInvalid(f"{path} is not the chunk that was encrypted")
        return data


def chunk_path(root: Path, number: int) -> Path:
    """The file of a chunk's ciphertext."""
    return root / f"chunk-{number:06d}"
