"""What is public of an encrypted dataset: its shape and the hashes of its ciphertext."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from chiron.wire.contract import InputType, Shape, Task
from chiron.wire.encoding import Digest, Identifier, WireModel, digest

MAX_CHUNK_BYTES = 64 * 2**20


class DatasetManifest(WireModel):
    """Public description of a dataset of `chunks` equally long ciphertexts (docs/protocol.md, Datasets)."""

    version: Literal[1] = 1
    dataset_id: Identifier
    task: Task
    input_shape: Shape
    input_dtype: InputType
    target_shape: Shape = ()
    classes: int = Field(default=0, ge=0, le=100_000)
    """Classes of a classification (targets are int64), 0 for a regression (targets are float32)."""
    examples: int = Field(ge=1, le=2**40)
    chunk_examples: int = Field(ge=1, le=2**24)
    """Rows of every chunk; the last is padded with zero rows."""
    chunk_ciphertext_bytes: int = Field(ge=1, le=MAX_CHUNK_BYTES)
    chunk_sha256: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=1_000_000)]

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return len(self.chunk_sha256)

    def rows(self, number: int) -> int:
        """Examples in chunk `number`, without the filling."""
        return min(self.chunk_examples, self.examples - number * self.chunk_examples)

    def partition(self, index: int, count: int) -> range:
        """Numbers of the chunks that trainer `index` of `count` reads; empty if there are too few chunks."""
        return range(index, self.chunks, count)

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if -(-self.examples // self.chunk_examples) != self.chunks:
            raise ValueError("examples, chunk_examples and the number of chunk hashes do not agree")
        if (self.task is Task.CLASSIFICATION) != (self.classes >= 2):
            raise ValueError("a classification has at least two classes, a regression none")
        if self.task is Task.CLASSIFICATION and self.target_shape:
            raise ValueError("a classification's target is one class index: target_shape must be empty")
        return self

    def header_digest(self) -> str:
        """Digest of all that is known before the first chunk is encrypted; bound to every chunk."""
        return digest(self, exclude={"chunk_sha256", "examples"})

    def digest(self) -> str:
        """The dataset's identity: what a grant and a job spec name."""
        return digest(self)
