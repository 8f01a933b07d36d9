"""What the reader yields is what the owner wrote; all else that a host may serve is refused with a code."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.datasets import ChunkForm, DatasetWriter, EncryptedDataset, Examples
from chiron.runtime.errors import (
    ChunkMalformed,
    DatasetError,
    ExamplesInvalid,
)
from chiron.runtime.sealing import stream
from chiron.wire.contract import InputType, Task
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import sha256_hex

FORM = ChunkForm(Task.CLASSIFICATION, (2, 3), InputType.UINT8, (), 5, 4)
KEY = bytes(range(32))


class Host:
    """Storage that serves a dataset's ciphertexts, or what a test puts in their place."""

    def __init__(self, manifest: DatasetManifest, chunks: list[bytes]) -> None:
        self.manifest = manifest
        self.chunks = chunks
        self.requests: list[int] = []

    async def fetch(self, number: int) -> bytes:
        self.requests.append(number)
        await asyncio.sleep(0)
        return self.chunks[number]

    def reader(self, key: bytes = KEY) -> EncryptedDataset:
        return EncryptedDataset(self.manifest, key, self.fetch)


def examples_of(form: ChunkForm, count: int, seed: int = 0) -> Examples:
    random = np.random.default_rng(seed)
    x = random.integers(0, 200, (count, *form.input_shape)).astype(form.input_dtype.value)
    if form.task is Task.CLASSIFICATION:
        return Examples(x, random.integers(0, form.classes, count))
    return Examples(x, random.normal(size=(count, *form.target_shape)).astype(np.float32))


def encrypt(form: ChunkForm, examples: Examples, key: bytes = KEY, dataset_id: str | None = None) -> Host:
    writer = DatasetWriter(form, dataset_id or secrets.token_hex(16), key)
    starts = range(0, len(examples.x), form.rows)
    chunks = [
        writer.seal(
            Examples(examples.x[start : start + form.rows], examples.y[start : start + form.rows]),
            last=start == starts[-1],
        )
        for start in starts
    ]
    return Host(writer.manifest(), chunks)


async def read_all(dataset: EncryptedDataset, numbers: range | None = None) -> Examples:
    parts = [
        part async for part in dataset.read(range(dataset.manifest.chunks) if numbers is None else numbers)
    ]
    return Examples(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))


FORMS = st.builds(
    ChunkForm,
    task=st.just(Task.CLASSIFICATION),
    input_shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    input_dtype=st.sampled_from(InputType),
    target_shape=st.just(()),
    classes=st.integers(2, 10),
    rows=st.integers(1, 7),
) | st.builds(
    ChunkForm,
    task=st.just(Task.REGRESSION),
    input_shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    input_dtype=st.sampled_from(InputType),
    target_shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    classes=st.just(0),
    rows=st.integers(1, 7),
)


@settings(max_examples=40, deadline=None)
@given(FORMS, st.integers(1, 20))
def test_what_is_read_is_what_was_written_and_every_chunk_has_one_size(form: ChunkForm, count: int) -> None:
    examples = examples_of(form, count)
    host = encrypt(form, examples)
    assert {len(chunk) for chunk in host.chunks} == {host.manifest.chunk_ciphertext_bytes}
    read = asyncio.run(read_all(host.reader()))
    np.testing.assert_array_equal(read.x, examples.x)
    np.testing.assert_array_equal(read.y, examples.y)
    assert read.y.dtype == form.target_dtype


async def test_partitions_cover_every_example_once() -> None:
    host = encrypt(FORM, examples_of(FORM, 23))
    dataset = host.reader()
    partitions = [dataset.partition(index, 4) for index in range(4)]
    assert sorted(number for partition in partitions for number in partition) == list(range(6))
    read = [await read_all(dataset, partition) for partition in partitions]
    assert sum(len(part.x) for part in read) == 23
    assert [dataset.examples_in(partition) for partition in partitions] == [len(part.x) for part in read]


async def test_prefetch_is_bounded() -> None:
    host = encrypt(FORM, examples_of(FORM, 40))
    dataset = EncryptedDataset(host.manifest, KEY, host.fetch, prefetch=2)
    chunks = dataset.read(range(10))
    await anext(chunks)
    await asyncio.sleep(0.05)
    assert host.requests == [0, 1, 2]
    await chunks.aclose()


def swapped(host: Host) -> None:
    host.chunks[0], host.chunks[1] = host.chunks[1], host.chunks[0]


def repeated(host: Host) -> None:
    host.chunks[1] = host.chunks[0]


def flipped(host: Host) -> None:
    host.chunks[1] = host.chunks[1][:-1] + bytes([host.chunks[1][-1] ^ 1])


def shortened(host: Host) -> None:
    host.chunks[1] = host.chunks[1][:-1]


def foreign(host: Host) -> None:
    host.chunks[1] = encrypt(FORM, examples_of(FORM, 12, seed=1)).chunks[1]


def relist(host: Host, chunks: list[bytes], **changes: Any) -> None:
    """A host that rewrites the manifest to fit; in a job, the owner's digest of it catches that first."""
    host.chunks = chunks
    listed = {"chunk_sha256": [sha256_hex(chunk) for chunk in chunks]} | changes
    host.manifest = DatasetManifest.model_validate(host.manifest.model_dump() | listed)


def truncated(host: Host) -> None:
    relist(host, host.chunks[:-1], examples=8)


def extended(host: Host) -> None:
    relist(host, [*host.chunks, host.chunks[0]], examples=13)


def swapped_and_listed(host: Host) -> None:
    relist(host, [host.chunks[1], host.chunks[0], host.chunks[2]])


def foreign_and_listed(host: Host) -> None:
    """Same key (an owner must not, but might), another dataset."""
    other = encrypt(FORM, examples_of(FORM, 12), dataset_id="f" * 32)
    relist(host, [host.chunks[0], other.chunks[1], host.chunks[2]])


def renamed(host: Host) -> None:
    host.manifest = DatasetManifest.model_validate(host.manifest.model_dump() | {"dataset_id": "0" * 32})


def reclassed(host: Host) -> None:
    host.manifest = DatasetManifest.model_validate(host.manifest.model_dump() | {"classes": 6})


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (swapped, "chunk-out-of-place"),
        (repeated, "chunk-out-of-place"),
        (flipped, "chunk-altered"),
        (foreign, "chunk-altered"),
        (shortened, "chunk-size-mismatch"),
        (truncated, "dataset-truncated"),
        (extended, "dataset-truncated"),
        (swapped_and_listed, "chunk-unopenable"),
        (foreign_and_listed, "chunk-unopenable"),
        (renamed, "chunk-unopenable"),
        (reclassed, "chunk-unopenable"),
    ],
)
async def test_a_host_that_serves_anything_else_is_caught(tamper: Callable[[Host], None], code: str) -> None:
    host = encrypt(FORM, examples_of(FORM, 12))
    tamper(host)
    with pytest.raises(DatasetError) as caught:
        await read_all(host.reader())
    assert caught.value.code == code


async def test_another_key_opens_nothing() -> None:
    host = encrypt(FORM, examples_of(FORM, 4))
    with pytest.raises(DatasetError) as caught:
        await read_all(host.reader(key=bytes(32)))
    assert caught.value.code == "chunk-unopenable"


def seal_raw(plaintext: bytes, count: int = 4) -> Host:
    """A well-sealed chunk with a content that no honest writer makes."""
    host = encrypt(FORM, examples_of(FORM, count))
    from chiron.runtime.datasets.chunks import associated_data

    bound = associated_data(host.manifest.dataset_id, host.manifest.header_digest())
    relist(host, [stream.seal_chunk(KEY, 0, plaintext, last=True, associated_data=bound)])
    return host


def test_content_that_is_not_canonical_is_refused_even_if_well_sealed() -> None:
    good = FORM.encode(examples_of(FORM, 4))
    layout = FORM.layout()
    x = np.ones((4, 2, 3), np.uint8)
    bad_class = layout.dump({"x": x, "y": np.array([0, 1, 2, 5])})
    negative = layout.dump({"x": x, "y": np.array([0, 1, 2, -1])})
    for plaintext in (bytes(len(good)), good.replace(b'"x"', b'"z"'), bad_class, negative):
        with pytest.raises(ChunkMalformed):
            asyncio.run(read_all(seal_raw(plaintext).reader()))
    with pytest.raises(ChunkMalformed, match="after its last"):
        asyncio.run(read_all(seal_raw(good, count=3).reader()))


def test_the_writer_refuses_examples_of_another_form() -> None:
    writer = DatasetWriter(FORM, "a" * 32, KEY)
    x, y = np.zeros((4, 2, 3), np.uint8), np.zeros(4, np.int64)
    for examples in (
        Examples(x.astype(np.float32), y),
        Examples(x.reshape(4, 3, 2), y),
        Examples(x, y.astype(np.float32)),
        Examples(x, y + 5),
        Examples(x, y - 1),
        Examples(x, y[:3]),
        Examples(x[:0], y[:0]),
        Examples(np.zeros((5, 2, 3), np.uint8), np.zeros(5, np.int64)),
    ):
        with pytest.raises(ExamplesInvalid):
            writer.seal(examples, last=True)
    with pytest.raises(ExamplesInvalid):
        writer.seal(Examples(x[:3], y[:3]), last=False)
    with pytest.raises(ExamplesInvalid):
        writer.manifest()
    writer.seal(Examples(x, y), last=True)
    with pytest.raises(ExamplesInvalid):
        writer.seal(Examples(x, y), last=True)


def test_a_chunk_larger_than_the_protocol_carries_is_refused_before_any_is_sealed() -> None:
    with pytest.raises(ExamplesInvalid):
        DatasetWriter(FORM._replace(rows=2**24), "a" * 32, KEY)


def test_chunk_known_answer() -> None:
    """Made anew from independent parts: safetensors' own writer, sorted JSON, AES-256-GCM, STREAM's nonce."""
    import hashlib
    import json

    import safetensors.numpy
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    examples = examples_of(FORM, 6)
    host = encrypt(FORM, examples, dataset_id="ab" * 16)
    header = {
        "chunk_ciphertext_bytes": len(host.chunks[0]),
        "chunk_examples": 4,
        "classes": 5,
        "dataset_id": "ab" * 16,
        "input_dtype": "uint8",
        "input_shape": [2, 3],
        "target_shape": [],
        "task": "classification",
        "version": 1,
    }
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode()).digest()
    bound = b"chiron/v1/dataset\0" + b"\xab" * 16 + digest
    filled = {
        "x": np.concatenate([examples.x[4:], np.zeros((2, 2, 3), np.uint8)]),
        "y": np.concatenate([examples.y[4:], np.zeros(2, np.int64)]),
    }
    nonce = (1).to_bytes(11, "big") + b"\1"
    assert AESGCM(KEY).encrypt(nonce, safetensors.numpy.save(filled), bound) == host.chunks[1]
