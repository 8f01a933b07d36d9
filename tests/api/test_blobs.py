"""The blob store: whole or not at all, and nothing outside its directory."""

import tempfile
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.api.errors import BodyTooLarge, ChunkDigestMismatch, StorageDamaged, StorageError
from chiron.api.storage.blobs import FilesystemBlobStore


async def stream(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def read(store: FilesystemBlobStore, key: str, size: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, size)])


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=5))
async def test_what_is_written_is_read(content: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = FilesystemBlobStore(Path(directory))
        whole = b"".join(content)
        stored = await store.write("a/b", stream(*content), limit=len(whole))
        assert (stored.size, stored.sha256) == (len(whole), sha256(whole).hexdigest())
        assert await read(store, "a/b", stored.size) == whole


async def test_a_write_that_fails_keeps_the_old_and_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise ConnectionResetError

    store = FilesystemBlobStore(tmp_path)
    await store.write("a/b", stream(b"old"), limit=9)
    with pytest.raises(ConnectionResetError):
        await store.write("a/b", broken(), limit=9)
    with pytest.raises(BodyTooLarge):
        await store.write("a/b", stream(b"12345", b"67890"), limit=9)
    with pytest.raises(ChunkDigestMismatch):
        await store.write("a/b", stream(b"new"), limit=9, sha256="0" * 64)
    assert [path.read_bytes() for path in files(tmp_path)] == [b"old"]


async def test_what_a_crash_left_half_written_is_swept_at_start(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.0123.partial").write_bytes(b"half")
    FilesystemBlobStore(tmp_path)
    assert not files(tmp_path)


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a", "a//b", "a/.b", "A/b", "a/b\0", ""])
async def test_keys_cannot_leave_the_store(tmp_path: Path, key: str) -> None:
    store = FilesystemBlobStore(tmp_path / "store")
    with pytest.raises(StorageError):
        await store.write(key, stream(b"x"), limit=9)
    with pytest.raises(StorageError):
        await read(store, key, 1)
    assert not files(tmp_path)


async def test_damage_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path)
    await store.write("a/b", stream(b"content"), limit=9)
    (tmp_path / "a/b").write_bytes(b"short")
    for key in ("a/b", "a/missing"):
        with pytest.raises(StorageDamaged):
            await read(store, key, 7)
    await store.delete("a/b")
    await store.delete("a/b")
