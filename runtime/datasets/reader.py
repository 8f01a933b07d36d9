"""Reading an encrypted dataset from storage that may serve anything: only the owner's own rows come out."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from chiron.runtime.datasets.chunks import ChunkForm, Examples, associated_data, open_chunk
from chiron.runtime.errors import ChunkAltered, ChunkOutOfPlace, ChunkSizeMismatch
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import sha256_hex

Fetch = Callable[[int], Awaitable[bytes]]
"""Ciphertext of the chunk with this number, from the host; read with a bound by the one who provides it."""


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
        """Rows in these chunks, without the filling."""
        return sum(self.manifest.rows(number) for number in numbers)

    async def chunk(self, number: int) -> Examples:
        """Fetch, verify and open one chunk; filled rows are dropped.

        Raises:
            ChunkRefused: the host served something else (one subclass a reason).
            ChunkMalformed: the owner sealed something else.
        """
        ciphertext = await self._fetch(number)
        return await asyncio.to_thread(self._open, number, ciphertext)

    async def read(self, numbers: Sequence[int]) -> AsyncGenerator[Examples]:
        """The chunks `numbers` in that order, fetched ahead in bounded memory.

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
                yield await pending.popleft()
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
