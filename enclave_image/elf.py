"""ELF files: what they ask of their loader, and the shared libraries that the image needs beside them."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from chiron.enclave_image.errors import ImageInvalid, ImageUnbuildable

_MAGIC = b"\x7fELF"
_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")
_FOUND = re.compile(r"\s+(?P<name>\S+) => (?P<path>/\S+) \(0x[0-9a-f]+\)")
_LOADER = re.compile(r"\s+(?P<path>/\S+) \(0x[0-9a-f]+\)")
_MISSING = re.compile(r"\s+(?P<name>\S+) => not found")
_LDD_TIMEOUT_S = 120

Version = tuple[int, int]


@dataclass(frozen=True)
class ElfFacts:
    """One program or library."""

    position_independent: bool
    """ET_DYN: a library or a position-independent executable."""
    interpreter: bool
    """It names a loader: it is started as a program."""
    glibc: Version | None
    """Newest version of the C library that it needs; None if it needs none."""


def is_elf(file: Path) -> bool:
    """Whether `file` is a program or a library."""
    with file.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC


def read_elf(file: Path) -> ElfFacts:
    """What `file` asks of its loader. Occlum's is stricter than Linux's.

    Raises:
        ImageInvalid: it is damaged.
    """
    try:
        with file.open("rb") as stream:
            elf = ELFFile(stream)
            return ElfFacts(
                position_independent=elf.header["e_type"] == "ET_DYN",
                interpreter=any(segment["p_type"] == "PT_INTERP" for segment in elf.iter_segments()),
                glibc=max(_needed_glibc(elf), default=None),
            )
    except (ELFError, KeyError, ValueError) as error:
        raise ImageInvalid(f"{file.name} is not a sound ELF file") from error


def _needed_glibc(elf: ELFFile) -> list[Version]:
    names = [
        auxiliary.name
        for section in elf.iter_sections()
        if isinstance(section, GNUVerNeedSection)
        for _, auxiliaries in section.iter_versions()
        for auxiliary in auxiliaries
    ]
    return [(int(match[1]), int(match[2])) for name in names if (match := _GLIBC.fullmatch(name))]


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
