"""Compiled code is loaded only from a place where nobody else could have put it, and only undamaged."""

import os
from pathlib import Path

import pytest

from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import CacheUnsafe
from chiron.wasm_sandbox.module_cache import ModuleCache, cache_key
from chiron.wasm_sandbox.sandbox import Sandbox
from tests.wasm_sandbox.conftest import NOTHING, QUICK, REQUEST, data, small_builder

KEY = "0" * 64


@pytest.fixture
def cache(tmp_path: Path) -> ModuleCache:
    return ModuleCache(tmp_path / "modules")


def file_of(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "modules").glob("*.compiled")
    return found


def test_what_is_stored_is_loaded(cache: ModuleCache, tmp_path: Path) -> None:
    assert cache.load(KEY) is None
    cache.store(KEY, b"compiled")
    assert cache.load(KEY) == bytearray(b"compiled")
    assert (tmp_path / "modules").stat().st_mode & 0o077 == 0
    assert file_of(tmp_path).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_damaged_file_is_as_none(cache: ModuleCache, tmp_path: Path, place: int) -> None:
    cache.store(KEY, b"compiled")
    content = bytearray(file_of(tmp_path).read_bytes())
    content[place] ^= 1
    file_of(tmp_path).write_bytes(content)
    assert cache.load(KEY) is None


@pytest.mark.parametrize("length", [0, 10, 32, 39])
def test_a_cut_file_is_as_none(cache: ModuleCache, tmp_path: Path, length: int) -> None:
    cache.store(KEY, b"compiled")
    os.truncate(file_of(tmp_path), length)
    assert cache.load(KEY) is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "modules"
    cache = ModuleCache(directory)
    directory.chmod(mode)
    with pytest.raises(CacheUnsafe):
        ModuleCache(directory)
    with pytest.raises(CacheUnsafe):
        cache.load(KEY)


def test_a_file_that_others_may_write_is_refused(cache: ModuleCache, tmp_path: Path) -> None:
    cache.store(KEY, b"compiled")
    file_of(tmp_path).chmod(0o622)
    with pytest.raises(CacheUnsafe):
        cache.load(KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(cache: ModuleCache, tmp_path: Path) -> None:
    cache.store(KEY, b"compiled")
    os.chown(file_of(tmp_path), 65534, 65534)
    with pytest.raises(CacheUnsafe):
        cache.load(KEY)


def test_a_link_is_not_followed(cache: ModuleCache, tmp_path: Path) -> None:
    cache.store(KEY, b"compiled")
    path = file_of(tmp_path)
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises(CacheUnsafe):
        cache.load(KEY)


def test_a_file_where_the_directory_should_be_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(CacheUnsafe):
        ModuleCache(tmp_path / "link")


def test_the_longest_unused_give_way(tmp_path: Path) -> None:
    cache = ModuleCache(tmp_path / "modules", max_bytes=300)
    for number in range(4):
        cache.store(f"{number:064}", bytes(100))
        os.utime(tmp_path / "modules" / f"{number:064}.compiled", (number, number))
    kept = [number for number in range(4) if cache.load(f"{number:064}") is not None]
    assert kept == [2, 3]


def test_the_key_tells_components_backends_and_settings_apart() -> None:
    keys = {
        cache_key(component, backend, stack)
        for component in (b"a", b"b")
        for backend in Backend
        for stack in (2**20, 2**19)
    }
    assert len(keys) == 8


def test_a_sandbox_compiles_again_what_is_damaged(tmp_path: Path) -> None:
    sandbox = Sandbox(QUICK, cache=tmp_path / "modules")
    component = small_builder()
    first = sandbox.build(component, REQUEST, NOTHING, data(), seed=0)
    path = file_of(tmp_path)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert sandbox.build(component, REQUEST, NOTHING, data(), seed=0) == first
    assert path.read_bytes() == good
