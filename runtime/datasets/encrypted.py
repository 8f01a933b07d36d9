"""An encrypted dataset: sealed chunk by chunk by its owner, read from storage that may serve anything.

The writer holds one chunk in memory. Out of the reader come the owner's own rows and nothing else.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from chiron.runtime.datasets.chunks import ChunkForm, Examples, associated_data, open_chunk
from chiron.runtime.errors import (
    ChunkAltered,
    ChunkMalformed,
    ChunkOutOfPlace,
    ChunkSizeMismatch,
    ExamplesInvalid,
)
from chiron.runtime.sealing import stream
from chiron.wire.datasets import MAX_CHUNK_BYTES, DatasetManifest
from chiron.wire.encoding import sha256_hex

_UNKNOWN = "0" * 64
Fetch = Callable[[int], Awaitable[bytes]]
"""Ciphertext of the chunk with this number, from the host; read with a bound by the one who provides it."""


class DatasetWriter:
    """Seals the chunks of one dataset under a fresh key; the manifest is complete after the last one."""

    def __init__(self, form: ChunkForm, dataset_id: str, key: bytes) -> None:
        """`dataset_id` (32 hex) and `key` (32 bytes) must be random and never used for another dataset.

        Raises:
            ExamplesInvalid: a chunk of this form is larger than the protocol carries.
        """
        if form.ciphertext_bytes > MAX_CHUNK_BYTES:
            raise ExamplesInvalid(f"a chunk of {form.rows} examples exceeds {MAX_CHUNK_BYTES} bytes")
        self._form = form
        self._key = key
        self._digests: list[str] = []
        self._examples = 0
        self._ended = False
        self._header = DatasetManifest(
            dataset_id=dataset_id,
            task=form.task,
            input_shape=form.input_shape,
            input_dtype=form.input_dtype,
            target_shape=form.target_shape,
            classes=form.classes,
            examples=1,
            chunk_examples=form.rows,
            chunk_ciphertext_bytes=form.ciphertext_bytes,
            chunk_sha256=(_UNKNOWN,),
        )
        self._bound = associated_data(dataset_id, self._header.header_digest())

    def seal(self, examples: Examples, *, last: bool) -> bytes:
        """Ciphertext of the next chunk; only the last may hold fewer than `form.rows` examples.

        Raises:
            ExamplesInvalid: the examples are not of the form, too few, or come after the last.
        """
        if self._ended or (len(examples.x) != self._form.rows and not last):
            raise ExamplesInvalid("only the last chunk may be short, and nothing follows it")
        plaintext = self._form.encode(examples)
        number = len(self._digests)
        sealed = stream.seal_chunk(self._key, number, plaintext, last=last, associated_data=self._bound)
        self._digests.append(sha256_hex(sealed))
        self._examples += len(examples.x)
        self._ended = last
        return sealed

    def manifest(self) -> DatasetManifest:
        """The finished dataset's manifest.

        Raises:
            ExamplesInvalid: the last chunk has not been sealed.
        """
        if not self._ended:
            raise ExamplesInvalid("the dataset has no last chunk yet")
        counted = {"examples": self._examples, "chunk_sha256": self._digests}
        return DatasetManifest.model_validate(self._header.model_dump() | counted)


class EncryptedDataset:
    """The chunks of one dataset, each checked before it is opened.

    The caller must have checked that `manifest.digest()` is the one that the owner granted: with the manifest
    true, every chunk is. Checks, in order: 1. size, 2. digest, 3. STREAM (key, place, dataset, last or not),
    4. canonical form and class range.
    """

    def __init__(self, manifest: DatasetManifest, key: bytes, fetch: Fetch, *, prefetch: int = 1) -> None:
        """`prefetch` chunks are fetched and opened ahead of the one in use; memory holds two more."""
        self.manifest = manifest
        self._key = key
        self._fetch = fetch
        self._prefetch = prefetch
        self._form = ChunkForm.of(manifest)
        self._bound = associated_data(manifest.dataset_id, manifest.header_digest())

    def partition(self, index: int, count: int) -> range:
        """Numbers of the chunks that trainer `index` of `count` reads; empty if there are too few chunks."""
        return self.manifest.partition(index, count)

    def examples_in(self, numbers: Sequence[int]) -> int:
        """The number of rows in these chunks, without the filling."""
        return sum(self.manifest.rows(number) for number in numbers)

    async def chunk(self, number: int) -> Examples:
        """Fetch, verify and open one chunk; filled rows are dropped.

        Raises:
            ChunkRefused: the host served something else (one subclass a reason).
            ChunkMalformed: the owner sealed something else.
        """
        ciphertext = await self._fetch(number)
        return await asyncio.to_thread(self._open, number, ciphertext)

    async def read(
        self, numbers: Sequence[int], *, malformed: Callable[[ChunkMalformed], None] | None = None
    ) -> AsyncGenerator[Examples]:
        """The chunks `numbers` in that order, fetched ahead in bounded memory.

        With `malformed`, a chunk that the owner spoilt is told there and left out, and reading goes on.

        Raises:
            ChunkRefused, ChunkMalformed: as `chunk`, at the chunk in question.
        """
        pending: deque[asyncio.Task[Examples]] = deque()
        upcoming = iter(numbers)
        try:
            while True:
                while len(pending) <= self._prefetch and (number := next(upcoming, None)) is not None:
                    pending.append(asyncio.create_task(self.chunk(number)))
                if not pending:
                    return
                try:
                    examples = await pending.popleft()
                except ChunkMalformed as error:
                    if malformed is None:
                        raise
                    malformed(error)
                    continue
                yield examples
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _open(self, number: int, ciphertext: bytes) -> Examples:
        manifest = self.manifest
        if len(ciphertext) != manifest.chunk_ciphertext_bytes:
            raise ChunkSizeMismatch(f"chunk {number} has {len(ciphertext)} bytes")
        digest = sha256_hex(ciphertext)
        if digest != manifest.chunk_sha256[number]:
            if digest in manifest.chunk_sha256:
                raise ChunkOutOfPlace(f"another chunk was served as chunk {number}")
            raise ChunkAltered(f"what was served as chunk {number} is not of this dataset")
        last = number == manifest.chunks - 1
        plaintext = open_chunk(self._key, number, ciphertext, last=last, bound=self._bound)
        return self._form.decode(plaintext, manifest.rows(number))
