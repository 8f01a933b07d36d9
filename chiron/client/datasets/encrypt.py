"""From a source to an encrypted bundle, in one pass and in bounded memory."""

import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.bundle import MANIFEST, Bundle, chunk_path
from chiron.client.datasets.sources import Description, Source
from chiron.client.datasets.understood import Understood
from chiron.client.errors import SourceInvalid
from chiron.client.store import DatasetRecord, OwnerStore
from chiron.runtime.datasets import DatasetWriter
from chiron.runtime.sealing.stream import KEY_BYTES

CHUNK_BYTES = 4 * 2**20
"""Plaintext of a chunk at most, unless a single example is larger."""
_HELD_OUT_BATCH = 256
CHUNKS_AT_LEAST = 16
"""As far as the examples go: chunks are what trainers divide among themselves."""


@dataclass(frozen=True)
class EncryptOptions:
    """Choices of how a dataset is cut into chunks, and what is held out."""

    held_out_percent: float = 0.0
    """Rows kept on this machine, in the clear, to test the model with."""
    seed: int = 0
    """The shuffle's seed."""
    chunk_bytes: int = CHUNK_BYTES


@dataclass(frozen=True)
class Encrypted:
    """An encrypted dataset, and the owner's record of it."""

    bundle: Bundle
    record: DatasetRecord
    record_path: Path
    understood: Understood
    """What was understood of the source."""


def encrypt(
    source: Source,
    directory: Path,
    store: OwnerStore,
    options: EncryptOptions | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Encrypted:
    """Encrypt a source under a fresh key into a new bundle at `directory`; the key goes to the owner's store.

    `advance` is called with the examples done and the examples to do.

    Raises:
        SourceInvalid: an example cannot be used, or `directory` holds something already.
        SourceDoubtful: it can be meant in more than one way.
    """
    options = options or EncryptOptions()
    _require_empty(directory)
    description = source.description
    description.understood.settled()
    parts = split(description.examples, options.held_out_percent, options.seed)
    dataset_id, key = secrets.token_hex(16), secrets.token_bytes(KEY_BYTES)
    rows = rows_per_chunk(description, len(parts.train), options.chunk_bytes)
    writer = DatasetWriter(description.chunk_form(rows), dataset_id, key)
    with _removed_on_failure(directory):
        _write_chunks(source, parts.train, writer, rows, directory, advance)
        held_out = write_held_out(source, parts.held_out, store, dataset_id) if len(parts.held_out) else None
    record = DatasetRecord(
        manifest=writer.manifest(),
        key=key,
        class_names=description.class_names,
        settled=description.settled,
        bundle=directory.resolve(),
        held_out=held_out,
    )
    record_path = store.save_dataset(record)
    # Written last: a bundle without a manifest is an interrupted one.
    (directory / MANIFEST).write_text(record.manifest.model_dump_json())
    return Encrypted(Bundle(directory, record.manifest), record, record_path, description.understood)


def _write_chunks(
    source: Source,
    train: NDArray[np.int64],
    writer: DatasetWriter,
    rows: int,
    directory: Path,
    advance: Callable[[int, int], None] | None,
) -> None:
    done = 0
    for number, examples in enumerate(source.read(train, rows)):
        done += len(examples.x)
        sealed = writer.seal(examples, last=done == len(train))
        chunk_path(directory, number).write_bytes(sealed)
        if advance:
            advance(done, len(train))


@contextmanager
def _removed_on_failure(directory: Path) -> Iterator[None]:
    """Half a bundle is of no use: its key was never stored."""
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            path.unlink()
        if not existed:
            directory.rmdir()
        raise


def rows_per_chunk(description: Description, examples: int, chunk_bytes: int) -> int:
    """Examples of a chunk: as many as `chunk_bytes` holds, but no fewer than `CHUNKS_AT_LEAST` chunks."""
    by_size = max(1, chunk_bytes // description.example_bytes)
    by_count = -(-examples // CHUNKS_AT_LEAST)
    return min(by_size, by_count)


def _require_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SourceInvalid(f"{directory} exists already: choose another place", code="destination-exists")


class Split(NamedTuple):
    """Row numbers of a source, each in one of the two."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split(examples: int, held_out_percent: float, seed: int) -> Split:
    """Shuffle `examples` rows and hold some out: by the seed alone, so that it can be repeated.

    Chunks are dealt to trainers in turn: without shuffling, data that is sorted by class would give each
    trainer other classes.

    Raises:
        SourceInvalid: nothing would be left to train on.
    """
    order = np.random.default_rng(seed).permutation(examples)
    held = round(examples * held_out_percent / 100)
    if not 0 <= held < examples:
        raise SourceInvalid(
            f"holding out {held_out_percent} % of {examples} examples leaves none to train on"
        )
    return Split(train=order[held:], held_out=np.sort(order[:held]))


def write_held_out(source: Source, rows: NDArray[np.int64], store: OwnerStore, dataset_id: str) -> Path:
    """Write rows that stay with the owner, in the clear: an .npz in the owner's store, mode 0600.

    They are read batch by batch. Returns the file's path.

    Raises:
        SourceInvalid: a row cannot be read.
    """
    path = store.directory("held-out") / f"{dataset_id}.npz"
    description = source.description
    targets = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            shape = (len(rows), *description.input_shape)
            _write_header(member, np.dtype(description.input_dtype.value), shape)
            for examples in source.read(rows, _HELD_OUT_BATCH):
                member.write(np.ascontiguousarray(examples.x).tobytes())
                targets.append(examples.y)
        with archive.open("y.npy", "w") as member:
            np.lib.format.write_array(member, np.concatenate(targets))
    return path


def _write_header(file: IO[bytes], dtype: "np.dtype[np.generic]", shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
