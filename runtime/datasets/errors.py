"""Errors of encrypted datasets.

DatasetError
├── ExamplesInvalid         rows that do not fit the dataset's declared form (`examples-invalid`)
├── ChunkRefused            a ciphertext that is not the one the owner made for this place
│   ├── ChunkSizeMismatch   not of the public size (`chunk-size-mismatch`)
│   ├── ChunkOutOfPlace     another chunk of this dataset: moved or repeated (`chunk-out-of-place`)
│   ├── ChunkAltered        no chunk of this dataset: altered or foreign (`chunk-altered`)
│   ├── ChunkUnopenable     listed here, but sealed with another key or for another dataset or place
│   │                       (`chunk-unopenable`)
│   └── DatasetTruncated    the manifest ends before or after the dataset did (`dataset-truncated`)
└── ChunkMalformed          it opens, but its content is not of the declared form (`chunk-malformed`)

All but `ExamplesInvalid` depend on ciphertext and on public facts only, or on the owner's own mistake.
"""

from chiron.wire.errors import ChironError


class DatasetError(ChironError):
    """Base of all; `code` is stable. Messages name places and sizes, never values."""

    code = "dataset-failed"


class ExamplesInvalid(DatasetError):
    """Inputs or targets whose shape, type or range is not what the dataset declares."""

    code = "examples-invalid"


class ChunkRefused(DatasetError):
    """The host served something other than what the owner uploaded."""

    code = "chunk-refused"


class ChunkSizeMismatch(ChunkRefused):
    """The ciphertext is longer or shorter than every chunk of this dataset is."""

    code = "chunk-size-mismatch"


class ChunkOutOfPlace(ChunkRefused):
    """The ciphertext is another chunk of this dataset."""

    code = "chunk-out-of-place"


class ChunkAltered(ChunkRefused):
    """The ciphertext is no chunk of this dataset."""

    code = "chunk-altered"


class ChunkUnopenable(ChunkRefused):
    """The manifest lists the ciphertext here, yet it was not sealed for this place under this key."""

    code = "chunk-unopenable"


class DatasetTruncated(ChunkRefused):
    """The chunk opens only as a last one where the manifest goes on, or the other way round."""

    code = "dataset-truncated"


class ChunkMalformed(DatasetError):
    """The plaintext is not the canonical form of this dataset's examples."""

    code = "chunk-malformed"
