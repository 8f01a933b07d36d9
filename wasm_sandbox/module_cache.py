"""Compiled components on disk, by key. Loading one is as good as running it: so only our own are loaded.

The directory must belong to this user and be writable by nobody else; a file too. Each holds its
content's SHA-256 first, so that a damaged one is compiled again rather than run.
"""

import os
import stat
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from chiron.wasm_sandbox.engine import CONFIG_VERSION, Backend
from chiron.wasm_sandbox.errors import Code, failure

_DIGEST_BYTES = 32
_SUFFIX = ".compiled"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_key(component: bytes, backend: Backend, stack_bytes: int) -> str:
    """Names the compiled form of a component: its digest, the engine's version and the settings."""
    facts = f"{_engine_version()}/{CONFIG_VERSION}/{backend}/{stack_bytes}/{struct.calcsize('P')}"
    return sha256(sha256(component).digest() + facts.encode()).hexdigest()


def _engine_version() -> str:
    try:
        return version("wasmtime")
    except PackageNotFoundError:  # An image without package metadata: the engine itself checks what it loads.
        return "unknown"


class ModuleCache:
    """A directory of compiled components; the ones used longest ago give way."""

    def __init__(self, directory: Path, *, max_bytes: int = 2**30) -> None:
        """Make the directory if there is none.

        Raises:
            CacheUnsafe: somebody else could write into it.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._max_bytes = max_bytes
        self._check(directory.lstat(), stat.S_ISDIR)

    def load(self, key: str) -> bytearray | None:
        """The compiled component, or None if there is none or it is damaged.

        Raises:
            CacheUnsafe: directory or file could have been written by somebody else.
        """
        self._check(self._directory.lstat(), stat.S_ISDIR)
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(Code.CACHE_UNSAFE, str(error)) from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            self._check(status, stat.S_ISREG)
            digest = file.read(_DIGEST_BYTES)
            content = bytearray(max(status.st_size - _DIGEST_BYTES, 0))
            length = file.readinto(content)
        if length != len(content) or sha256(content).digest() != digest:
            return None
        with suppress(OSError):
            os.utime(self._path(key))
        return content

    def store(self, key: str, compiled: bytes | bytearray) -> None:
        """Keep it, whole or not at all."""
        with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
            file.write(sha256(compiled).digest())
            file.write(compiled)
        Path(file.name).replace(self._path(key))
        self._make_room()

    def _make_room(self) -> None:
        files = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            with suppress(OSError):
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[:-1]:
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{_SUFFIX}"

    def _check(self, status: os.stat_result, is_expected: Callable[[int], bool]) -> None:
        if not is_expected(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise failure(Code.CACHE_UNSAFE, str(self._directory))
