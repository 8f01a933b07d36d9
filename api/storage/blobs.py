"""The blob store's interface: named immutable-or-replaced byte strings, streamed both ways."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

PIECE_BYTES = 256 * 1024
"""What is read from storage at a time."""


@dataclass(frozen=True)
class StoredBlob:
    """What a write stored."""

    size: int
    sha256: str


class BlobStore(Protocol):
    """Keys are slash-separated names of `[a-z0-9-]`; the gateway makes them, callers never do."""

    async def write(
        self, key: str, content: AsyncIterable[bytes], *, limit: int, sha256: str | None = None
    ) -> StoredBlob:
        """Store `content` under `key`, wholly or not at all, replacing what was there.

        Raises:
            BodyTooLarge: more than `limit` bytes.
            ChunkDigestMismatch: `sha256` was given and is not the content's.
            StorageError: the storage failed.
        """
        ...

    def read(self, key: str, size: int) -> AsyncIterator[bytes]:
        """Stream the blob, which must be `size` bytes long.

        Raises:
            StorageDamaged: it is missing or of another size.
        """
        ...

    async def delete(self, key: str) -> None:
        """Forget a blob; fine if there is none."""
        ...
