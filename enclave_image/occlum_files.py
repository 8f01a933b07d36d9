"""Makes of an image what `copy_bom` and `occlum build` take: checked files, Occlum.json and bom.yaml.

None of this has run on SGX hardware. What can be checked without it is checked here, so that it fails at
build and not at a customer's.
"""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from chiron.enclave_image.contents import ENTRY_POINT, ENVIRONMENT, INTERPRETER
from chiron.enclave_image.elf import ElfFacts, Version, is_elf, read_elf
from chiron.enclave_image.errors import OcclumRefuses
from chiron.enclave_image.manifest import ROOT, File, ImageManifest, Link
from chiron.enclave_image.measurement import examine
from chiron.enclave_image.occlum_configuration import read_configuration

BOM = Path(__file__).parent / "bom.yaml"
LIBRARIES = "/opt/occlum/glibc/lib"
"""Where Occlum's loader looks."""
OCCLUM_GLIBC: Version = (2, 35)
"""The C library in occlum/occlum:*-ubuntu22.04; the 20.04 one has 2.31."""
_GLIBC_FILES = ("ld-", "libc.so", "libdl.so", "libm.so", "libpthread.so", "librt.so", "libutil.so")
"""Parts of the C library: Occlum brings its own."""


def write_occlum_files(
    image: Path, directory: Path, *, development: bool = False, glibc: Version = OCCLUM_GLIBC
) -> ImageManifest:
    """Write Occlum.json and bom.yaml for the image into `directory`.

    Raises:
        ImageInvalid: there is no image.
        OcclumRefuses: it would not start under Occlum; the message names the first reasons.
    """
    manifest = examine(image)
    configuration = read_configuration(development=development)
    problems = [
        *entry_problems(image, manifest, configuration["entry_points"]),
        *occlum_problems(image, manifest, glibc),
        *_environment_problems(configuration, manifest),
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise OcclumRefuses("; ".join(problems[:5]) + more)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Occlum.json").write_text(json.dumps(configuration, indent=4) + "\n")
    (directory / "bom.yaml").write_text(yaml.safe_dump(bill_of_materials(manifest), sort_keys=False))
    return manifest


def parse_version(text: str) -> Version:
    """`"2.35"` → (2, 35).

    Raises:
        OcclumRefuses: it is no version.
    """
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise OcclumRefuses(f"{text!r} is no version of glibc, as 2.35 is")
    return int(major), int(minor)


def occlum_problems(image: Path, manifest: ImageManifest, glibc: Version = OCCLUM_GLIBC) -> list[str]:
    """Why Occlum would not start programs of this image; empty if it would."""
    problems = []
    for entry in manifest.entries:
        if not isinstance(entry, File) or _is_glibc(entry.path):
            continue
        file = image / ROOT / entry.path[1:]
        if is_elf(file):
            problems += _file_problems(entry.path, read_elf(file), glibc)
    return problems


def bill_of_materials(manifest: ImageManifest) -> dict[str, Any]:
    """`bom.yaml` with the image's own shared libraries, each with its hash, which `copy_bom` checks."""
    bom: dict[str, Any] = yaml.safe_load(BOM.read_text())
    by_folder: dict[str, list[dict[str, object]]] = {}
    for entry in manifest.entries:
        if isinstance(entry, File) and _is_system_library(entry.path) and not _is_glibc(entry.path):
            path = PurePosixPath(entry.path)
            # Each is there under the name that it is loaded by; its own dependencies are in this list too.
            library = {"name": path.name, "hash": entry.sha256.upper(), "autodep": False}
            by_folder.setdefault(str(path.parent), []).append(library)
    copies = [
        {"from": f"${{CHIRON_IMAGE}}/{ROOT}{folder}", "files": files} for folder, files in by_folder.items()
    ]
    bom["targets"].append({"target": LIBRARIES, "copy": copies})
    return bom


def _file_problems(path: str, facts: ElfFacts, glibc: Version) -> list[str]:
    problems = []
    if not facts.position_independent:
        problems.append(f"{path} is not position-independent: build the image with a PIE interpreter")
    if path in (str(INTERPRETER), ENTRY_POINT[0]) and not facts.interpreter:
        problems.append(f"{path} names no loader")
    if facts.glibc is not None and facts.glibc > glibc:
        problems.append(f"{path} needs glibc {_text(facts.glibc)}, Occlum's is {_text(glibc)}")
    return problems


def _environment_problems(configuration: dict[str, Any], manifest: ImageManifest) -> list[str]:
    """Occlum's measured defaults must be the image's."""
    problems = []
    defaults = dict(line.split("=", 1) for line in configuration["env"]["default"])
    if defaults != dict(manifest.environment) or manifest.environment != ENVIRONMENT:
        problems.append("env.default differs from the image's environment")
    return problems


def entry_problems(image: Path, manifest: ImageManifest, prefixes: Sequence[str]) -> list[str]:
    """Why a host could start more than the entry program; empty if it could not.

    Occlum lets a host start, with any arguments, each path that begins with an entry point. A link that leads
    into one or out of it, a second file, and the entry program's being something else are refused.
    """
    if manifest.entry_point != ENTRY_POINT:
        return [f"{' '.join(manifest.entry_point)} is not the entry program: build the image again"]
    program = PurePosixPath(ENTRY_POINT[0])
    problems = []
    hashes = {entry.path: entry.sha256 for entry in manifest.entries if isinstance(entry, File)}
    for entry in manifest.entries:
        path = PurePosixPath(entry.path)
        reachable = any(path.is_relative_to(prefix) for prefix in prefixes)
        leads_there = any(PurePosixPath(prefix).is_relative_to(path) for prefix in prefixes)
        if isinstance(entry, Link) and (reachable or leads_there):
            problems.append(f"{path} is a link, in or on the way to an entry point")
        elif isinstance(entry, File) and reachable and path != program:
            problems.append(f"a host could start {path}")
    if str(program) not in hashes:
        return [*problems, f"{program} is missing"]
    twins = [path for path, sha256 in hashes.items() if sha256 == hashes[str(program)]]
    if len(twins) > 1 or not is_elf(image / ROOT / program.relative_to("/")):
        problems.append(f"{program} is another program than the one that was compiled")
    return problems


def _is_system_library(path: str) -> bool:
    return path.startswith(("/lib/", "/lib64/", "/usr/lib/"))


def _is_glibc(path: str) -> bool:
    return _is_system_library(path) and PurePosixPath(path).name.startswith(_GLIBC_FILES)


def _text(version: Version) -> str:
    return ".".join(map(str, version))
