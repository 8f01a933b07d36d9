"""What an ELF file asks of its loader, read by `pyelftools`: Occlum is stricter than Linux."""

import re
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from chiron.enclave_image.errors import ImageInvalid

_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")

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


def read_elf(file: Path) -> ElfFacts:
    """What `file` asks for.

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
