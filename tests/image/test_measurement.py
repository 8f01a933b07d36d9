"""The measurement is a function of the image's content, and of all of it."""

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.enclave_image.build import build_image
from chiron.enclave_image.contents import INTERPRETER, PACKAGES, Source
from chiron.enclave_image.errors import ImageInvalid
from chiron.enclave_image.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    ROOT,
    File,
    Folder,
    ImageManifest,
    Link,
)
from chiron.enclave_image.measurement import examine, list_entries, measure

KNOWN = ImageManifest(
    entry_point=("/bin/a", "-b"),
    environment={"LANG": "C"},
    entries=(
        Folder(path="/bin"),
        File(path="/bin/a", executable=True, size=3, sha256="ab" * 32),
        Link(path="/bin/b", target="a"),
    ),
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small image directory."""
    directory = tmp_path / "image"
    root = directory / ROOT
    (root / "bin").mkdir(parents=True)
    (root / "bin/a").write_bytes(b"abc")
    (root / "bin/a").chmod(0o755)
    (root / "bin/b").symlink_to("a")
    (root / "empty").mkdir()
    manifest = KNOWN.model_copy(update={"entries": list_entries(root)})
    (directory / MANIFEST).write_text(manifest.model_dump_json())
    return directory


def test_known_answer() -> None:
    """Computed apart: SHA-256 of the label and of the JSON written by hand in RFC 8785's order."""
    import hashlib

    entries = (
        '[{"kind":"folder","path":"/bin"},{"executable":true,"kind":"file","path":"/bin/a","sha256":"'
        + "ab" * 32
        + '","size":3},{"kind":"link","path":"/bin/b","target":"a"}]'
    )
    text = f'{{"entries":{entries},"entry_point":["/bin/a","-b"],"environment":{{"LANG":"C"}},"version":1}}'
    expected = hashlib.sha256(b"chiron/v1/image-measurement\0" + text.encode()).hexdigest()
    assert KNOWN.measurement == expected


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


CHANGES: dict[str, Callable[[Path], object]] = {
    "one bit of a file": lambda root: flip(root / "bin/a"),
    "a file's mode": lambda root: (root / "bin/a").chmod(0o644),
    "a file's name": lambda root: (root / "bin/a").rename(root / "bin/c"),
    "a file more": lambda root: (root / "bin/c").write_bytes(b""),
    "a file less": lambda root: (root / "bin/a").unlink(),
    "a link's target": lambda root: relink(root / "bin/b", "/bin/a"),
    "a link made a file": lambda root: (root / "bin/a").replace(root / "bin/b"),
    "a folder more": lambda root: (root / "new").mkdir(),
    "a folder less": lambda root: (root / "empty").rmdir(),
    "a hidden file": lambda root: (root / "bin/.a").write_bytes(b""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_with(small: Path, change: str) -> None:
    before = measure(small)
    CHANGES[change](small / ROOT)
    assert measure(small) != before


@pytest.mark.parametrize(
    ("told", "instead"),
    [('"-b"', '"-c"'), ('"LANG":"C"', '"LANG":"D"'), ('"LANG":"C"', '"LANG":"C","LD_PRELOAD":"/x"')],
)
def test_changes_with_what_is_started_and_how(small: Path, told: str, instead: str) -> None:
    before = measure(small)
    manifest = small / MANIFEST
    assert told in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(told, instead))
    assert measure(small) != before


def test_does_not_believe_what_the_manifest_says_of_files(small: Path) -> None:
    before = measure(small)
    manifest = small / MANIFEST
    manifest.write_text(manifest.read_text().replace('"size":3', '"size":4'))
    assert measure(small) == before


def test_does_not_change_with_times_owners_or_the_place(small: Path, tmp_path: Path) -> None:
    before = measure(small)
    os.utime(small / ROOT / "bin/a", (1, 1))
    moved = tmp_path / "elsewhere"
    shutil.copytree(small, moved, symlinks=True)
    assert measure(small) == measure(moved) == before


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"version":2}', b" " * (MAX_MANIFEST_BYTES + 1)]
)
def test_refuses_a_manifest_that_is_none(small: Path, content: bytes) -> None:
    (small / MANIFEST).write_bytes(content)
    with pytest.raises(ImageInvalid):
        measure(small)


@given(st.binary(max_size=200))
def test_parses_no_garbage_as_a_manifest(content: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ImageManifest.model_validate_json(content)


@pytest.mark.parametrize("path", ["/a/../b", "/a//b", "a", "/a/", "/a\0b"])
def test_refuses_a_path_that_is_not_normal(path: str) -> None:
    document = KNOWN.model_dump(mode="json") | {"entries": [{"kind": "folder", "path": path}]}
    with pytest.raises(ValueError, match="path"):
        ImageManifest.model_validate(document)


def test_refuses_entries_out_of_order_or_twice() -> None:
    entries = KNOWN.model_dump(mode="json")["entries"]
    for wrong in (entries[::-1], [*entries, entries[-1]]):
        with pytest.raises(ValueError, match="sorted"):
            ImageManifest.model_validate(KNOWN.model_dump(mode="json") | {"entries": wrong})


def test_refuses_a_pipe_without_waiting_for_its_writer(small: Path) -> None:
    os.mkfifo(small / ROOT / "pipe")
    with pytest.raises(ImageInvalid, match="/pipe"):
        measure(small)


def test_refuses_a_file_that_would_change_its_user(small: Path) -> None:
    (small / ROOT / "bin/a").chmod(0o755 | stat.S_ISUID)
    with pytest.raises(ImageInvalid, match="/bin/a"):
        measure(small)


def test_refuses_a_name_that_is_no_text(small: Path) -> None:
    Path(os.fsdecode(os.fsencode(small / ROOT) + b"/\xff")).touch()
    with pytest.raises(ImageInvalid):
        measure(small)


def test_a_build_finds_its_own_work_and_repairs_what_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = Source(INTERPRETER, Path(sys.executable).resolve(), executable=True)
    module = tmp_path / "module.py"
    module.write_text("VALUE = 1\n")
    files = [
        interpreter,
        Source(PACKAGES / "module.py", module),
        Source(PurePosixPath("/etc/hosts"), b"here\n"),
    ]
    monkeypatch.setattr("chiron.enclave_image.build.sources", lambda: files)
    directory = tmp_path / "image"
    stages: list[str] = []
    built = build_image(directory, report=stages.append)
    assert stages[-1] == "measuring"
    assert build_image(directory, report=stages.append) == built
    assert stages[-1] == "nothing has changed"
    (directory / ROOT / "etc/hosts").write_text("elsewhere\n")
    assert measure(directory) != built.measurement
    assert build_image(directory, report=stages.append) == examine(directory) == built
    assert stages[-1] == "measuring"
    module.write_text("VALUE = 2\n")
    assert build_image(directory).measurement not in ("", built.measurement)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".image.lock", "image", "module.py"]
