"""The same source gives the same image, byte for byte, wherever and whenever it is built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from chiron.enclave_image.build import bytecode_path, compile_source
from chiron.enclave_image.contents import OUR_ROOMS
from chiron.enclave_image.manifest import MANIFEST, ROOT
from chiron.enclave_image.measurement import list_entries, measure

SOURCE = Path(__file__).parents[2]
BUILD = """
import os, sys
from pathlib import Path
os.umask(0o077)
from chiron.enclave_image.build import build_image
import chiron
assert Path(chiron.__file__).is_relative_to(Path.cwd()), chiron.__file__
print(build_image(Path(sys.argv[1])).measurement)
"""


@pytest.fixture(scope="module")
def elsewhere(image: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An image built from a copy of the source in another folder, by a process with other habits."""
    folder = tmp_path_factory.mktemp("a-rather-different-place-with-a-longer-name")
    checkout, directory = folder / "checkout", folder / "deep" / "er" / "image"
    for name in ("chiron", *OUR_ROOMS, "enclave_image"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / name, checkout / name, symlinks=True, ignore=ignored)
    differing = {"TZ": "Asia/Kathmandu", "LANG": "C", "PYTHONHASHSEED": "4711", "HOME": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", BUILD, directory],
        cwd=checkout,
        env=os.environ | differing,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return directory, result.stdout.strip()


def test_two_builds_in_different_folders_have_the_same_measurement(
    image: Path, elsewhere: tuple[Path, str]
) -> None:
    directory, told = elsewhere
    assert told == measure(directory) == measure(image)


def test_and_are_identical_in_every_byte_mode_and_time(image: Path, elsewhere: tuple[Path, str]) -> None:
    directory, _ = elsewhere
    assert (directory / MANIFEST).read_bytes() == (image / MANIFEST).read_bytes()
    for entry in list_entries(image / ROOT):
        here, there = (base / ROOT / entry.path[1:] for base in (image, directory))
        ours, theirs = here.lstat(), there.lstat()
        assert (ours.st_mode, ours.st_mtime_ns) == (theirs.st_mode, theirs.st_mtime_ns), entry.path


def test_no_file_of_the_image_names_where_it_was_built(elsewhere: tuple[Path, str]) -> None:
    directory, _ = elsewhere
    needle = b"a-rather-different-place"
    named = [file for file in (directory / ROOT).rglob("*") if file.is_file() and needle in file.read_bytes()]
    assert named == []


def test_byte_code_does_not_depend_on_what_the_compiling_process_did_before() -> None:
    source = (SOURCE / "enclave_image/build.py").read_bytes()
    path = PurePosixPath("/opt/x/build.py")
    first = compile_source(source, path)
    # What these strings are referenced by changes how marshal's later formats would write them.
    held = [compile(source, "elsewhere", "exec") for _ in range(3)]
    assert compile_source(source, path) == first
    assert len(held) == 3


def test_byte_code_is_what_the_interpreter_loads_without_looking_at_the_source(tmp_path: Path) -> None:
    module = tmp_path / "sample.py"
    module.write_bytes(b"raise SystemExit('the source was compiled')\n")
    cached = Path(bytecode_path(PurePosixPath(module)))
    cached.parent.mkdir()
    cached.write_bytes(
        compile_source(b"VALUE = ({1, 2}, frozenset('abc'), 1.5, b'x', ..., 2**70)\n", PurePosixPath("/s"))
    )
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import sample; print(sample.VALUE)",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1.5, b'x', Ellipsis, 1180591620717411303424" in result.stdout, result.stderr
