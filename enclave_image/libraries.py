"""The shared libraries and the loader that the image's programs need and that no package brings along."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from chiron.enclave_image.errors import ImageUnbuildable

_MAGIC = b"\x7fELF"
_FOUND = re.compile(r"\s+(?P<name>\S+) => (?P<path>/\S+) \(0x[0-9a-f]+\)")
_LOADER = re.compile(r"\s+(?P<path>/\S+) \(0x[0-9a-f]+\)")
_MISSING = re.compile(r"\s+(?P<name>\S+) => not found")
_LDD_TIMEOUT_S = 120


def is_elf(file: Path) -> bool:
    """Whether `file` is a program or a library."""
    with file.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC


def shared_libraries(programs: Iterable[Path], packaged: Iterable[Path]) -> dict[PurePosixPath, Path]:
    """Place in the image and file here of each library that `programs` load and `packaged` does not hold.

    All go into the folder where this machine's C library is: its loader searches that one by default, so that
    neither a cache nor a variable is needed. An interpreter's own library, found here by a run path that does
    not exist in the image, is found there as well.

    Raises:
        ImageUnbuildable: a library is missing, or `ldd` is.
    """
    inside = {path.resolve() for path in packaged}
    found: dict[str, Path] = {}
    loaders: set[Path] = set()
    for line in _ldd([str(program) for program in programs]).splitlines():
        if missing := _MISSING.fullmatch(line):
            raise ImageUnbuildable(f"the shared library {missing['name']} is not on this machine")
        if match := _FOUND.fullmatch(line):
            path = Path(match["path"])
            if path.resolve() not in inside:
                found[match["name"]] = path
        elif match := _LOADER.fullmatch(line):
            loaders.add(Path(match["path"]))
    if "libc.so.6" not in found:
        raise ImageUnbuildable("the C library was not found: the image is made for glibc")
    folder = PurePosixPath(found["libc.so.6"].parent)
    placed = {folder / name: path.resolve() for name, path in found.items()}
    return placed | {PurePosixPath(loader): loader.resolve() for loader in loaders}


def _ldd(programs: list[str]) -> str:
    ldd = shutil.which("ldd")
    if ldd is None:
        raise ImageUnbuildable("ldd is not installed (Debian: libc-bin)")
    # Programs of packages whose hashes are locked; ldd runs their loader only.
    result = subprocess.run(  # noqa: S603
        [ldd, *programs],
        capture_output=True,
        text=True,
        check=False,  # It fails if one of many is no dynamic program.
        timeout=_LDD_TIMEOUT_S,
        env={"LC_ALL": "C"},
    )
    return result.stdout
