"""A trainer's partition of the dataset, and the order in which it reads the chunks.

Both follow from public facts alone, for the host serves the chunks and sees each request. A trainer that does
not learn (any more, or at all) reads on as the others do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chiron.runtime.datasets.chunks import ChunkForm
from chiron.runtime.training.seeds import Seeds
from chiron.wire.contract import Oblivious
from chiron.wire.jobs import JobSpec

IN_MEMORY_BYTES = 256 * 2**20
"""A trainer whose partition is larger than this (plaintext) streams it."""
WINDOW_BYTES = 64 * 2**20
"""Plaintext of the chunks whose rows are mixed."""
VALIDATION_BYTES = 64 * 2**20
"""Streaming trainers hold out at most this much of their partition, since it stays in memory."""


@dataclass(frozen=True)
class Partition:
    """One trainer's partition of the dataset, from the manifest and the spec. Public."""

    index: int
    seed: int
    chunks: tuple[int, ...]
    validation_rows: tuple[int, ...]
    """The number of validation rows in each chunk."""
    training_rows: tuple[int, ...]
    """The number of rows to train on in each chunk."""
    chunk_bytes: int
    """Plaintext of a chunk."""
    streamed: bool
    oblivious: Oblivious = Oblivious.CLAMPED

    @classmethod
    def of(cls, spec: JobSpec, index: int) -> "Partition":
        """Trainer `index`'s partition: chunks index, index + trainers, …"""
        manifest = spec.dataset
        chunks = tuple(range(index, manifest.chunks, spec.exchange.trainers))
        validation = tuple(_validation_rows(spec, chunk) for chunk in chunks)
        rows = [_end(spec, chunk) - chunk * manifest.chunk_examples for chunk in chunks]
        training = tuple(n - v for n, v in zip(rows, validation, strict=True))
        size = ChunkForm.of(manifest).layout().size
        return cls(index, spec.seed, chunks, validation, training, size, is_streamed(spec), spec.oblivious)


def _partition_bytes(spec: JobSpec) -> int:
    """Plaintext of trainer 0's partition, the largest, so that all trainers do the same."""
    chunks = -(-spec.dataset.chunks // spec.exchange.trainers)
    return chunks * ChunkForm.of(spec.dataset).layout().size


def is_streamed(spec: JobSpec) -> bool:
    """Whether trainers stream their partition instead of holding it in memory."""
    return _partition_bytes(spec) > IN_MEMORY_BYTES


def validation_percent(spec: JobSpec) -> int:
    if not is_streamed(spec):
        return spec.validation_percent
    return min(spec.validation_percent, VALIDATION_BYTES * 100 // _partition_bytes(spec))


def _end(spec: JobSpec, chunk: int) -> int:
    return min((chunk + 1) * spec.dataset.chunk_examples, spec.dataset.examples)


def _validation_rows(spec: JobSpec, chunk: int) -> int:
    """Rounded so that all chunks together have the spec's percentage of all examples."""
    start = chunk * spec.dataset.chunk_examples
    percent = validation_percent(spec)
    return _end(spec, chunk) * percent // 100 - start * percent // 100


def holding_pass(partition: Partition) -> Sequence[int]:
    """The chunks read before a trial's first exchange: all, to keep them or their validation rows."""
    return partition.chunks


def streaming_pass(partition: Partition, exchange: int) -> Sequence[int]:
    """The chunks read before each exchange of a trial, if the data is streamed: all, in a fresh order."""
    order = (
        Seeds(partition.seed, "reads", partition.index).generator(exchange).permutation(len(partition.chunks))
    )
    return [partition.chunks[place] for place in order]


def due_chunks(partition: Partition, exchange: int, *, first: bool) -> list[int]:
    """Numbers of the chunks that a trainer reads before this exchange of a trial, in order.

    It follows from public facts alone, and every trainer reads them: one that learns, idles, or fails midway.

    Args:
        first: whether this trainer has read nothing in this trial yet. One that takes a crashed one's place
            begins at a later exchange.
    """
    numbers = list(holding_pass(partition)) if first else []
    if partition.streamed:
        numbers += streaming_pass(partition, exchange)
    return numbers
