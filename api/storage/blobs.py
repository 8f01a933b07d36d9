"""Blobs: bytes under a key, as files that are written beside their place, synced, checked, then renamed."""

import asyncio
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from chiron.api.errors import BodyTooLarge, ChunkDigestMismatch, StorageDamaged, StorageError

PIECE_BYTES = 256 * 1024
"""What is read from storage at a time."""
_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,127}(/[a-z0-9][a-z0-9-]{0,127}){1,5}")
_PARTIAL = ".partial"
_Result = TypeVar("_Result")


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

    async def delete_below(self, prefix: str) -> None:
        """Forget every blob whose key begins with `prefix` and a slash; fine if there is none.

        Raises:
            StorageError: some could not be deleted.
        """
        ...


class FilesystemBlobStore:
    """Blobs under one directory. A crash leaves either the old blob or the new one."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._root = root
        for leftover in root.rglob(f"*{_PARTIAL}"):
            leftover.unlink(missing_ok=True)

    async def write(
        self, key: str, content: AsyncIterable[bytes], *, limit: int, sha256: str | None = None
    ) -> StoredBlob:
        """Store `content` under `key`, wholly or not at all (`BlobStore.write`)."""
        place = self._place(key)
        partial = place.with_name(f"{place.name}.{secrets.token_hex(8)}{_PARTIAL}")
        file = await _on_disk(_create, partial)
        try:
            stored = await _copy(content, file, limit)
            if sha256 is not None and stored.sha256 != sha256:
                raise ChunkDigestMismatch("the content's SHA-256 is not the announced one")
            await _on_disk(_publish, file, partial, place)
        finally:
            # Not awaited: it must also happen when the request is cancelled.
            file.close()
            partial.unlink(missing_ok=True)
        return stored

    async def read(self, key: str, size: int) -> AsyncIterator[bytes]:
        """Stream the blob of `size` bytes (`BlobStore.read`)."""
        try:
            file = await asyncio.to_thread(self._place(key).open, "rb", buffering=0)
        except OSError as error:
            raise StorageDamaged("a stored blob is missing") from error
        with file:
            if os.fstat(file.fileno()).st_size != size:
                raise StorageDamaged("a stored blob is not as long as it was written")
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece

    async def delete(self, key: str) -> None:
        """Forget a blob; fine if there is none."""
        await asyncio.to_thread(self._place(key).unlink, missing_ok=True)

    async def delete_below(self, prefix: str) -> None:
        """Forget every blob below `prefix` (`BlobStore.delete_below`)."""
        place = self._place(prefix)
        try:
            await asyncio.to_thread(shutil.rmtree, place)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError("stored blobs could not be deleted: repeat the request") from error

    def _place(self, key: str) -> Path:
        # Keys are made by us from checked names; this is the second lock on the door.
        if not _KEY.fullmatch(key):
            raise StorageError("malformed blob key")
        return self._root / key


async def _on_disk(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Work in a thread. Only the disk's errors are ours: the content's are its source's."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        raise StorageError("the blob could not be written") from error


def _create(partial: Path) -> BinaryIO:
    partial.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return partial.open("xb", buffering=0)


async def _copy(content: AsyncIterable[bytes], file: BinaryIO, limit: int) -> StoredBlob:
    digest = hashlib.sha256()
    size = 0
    async for piece in content:
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"at most {limit} bytes are taken here")
        await _on_disk(_append, file, digest, piece)
    return StoredBlob(size, digest.hexdigest())


def _append(file: BinaryIO, digest: "hashlib._Hash", piece: bytes) -> None:
    digest.update(piece)
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]


def _publish(file: BinaryIO, partial: Path, place: Path) -> None:
    os.fsync(file.fileno())
    partial.rename(place)
    directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The rename itself must survive a power failure before we say "stored".
        os.fsync(directory)
    finally:
        os.close(directory)
