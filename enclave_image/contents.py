"""What goes into the image and where it comes from: interpreter, standard library, locked packages, ours."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import chiron
from chiron.enclave_image import start
from chiron.enclave_image.errors import ImageUnbuildable
from chiron.enclave_image.pruning import UNUSED_DISTRIBUTIONS, keeps_packaged, keeps_stdlib

PROJECT = "chiron-ml"
EXTRA = "enclave"
"""The project's list of what runs inside."""
OUR_ROOMS = ("ps", "runtime", "wasm_sandbox", "wire")
"""The rooms that run inside. Client, control plane, builder kit and image tools are not in the image."""

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = PurePosixPath("/opt/python")
"""The interpreter and its standard library."""
CHIRON = PurePosixPath("/opt/chiron")
"""The locked packages and ours, and what starts them."""
INTERPRETER = PYTHON / "bin" / _VERSION
STDLIB = PYTHON / "lib" / _VERSION
PACKAGES = CHIRON / "lib" / _VERSION / "site-packages"

ENTRY_POINT = (start.ENTRY_PROGRAM,)
"""The one program that a host may start. It takes no arguments (entry.c)."""
START = PurePosixPath(start.HERE, "start.py")


def started(digest: str) -> tuple[str, ...]:
    """What the entry program becomes; `digest` is of the list of files.

    Isolated mode, without site's start-up code: no variable and no writable folder adds to the import path.
    """
    return (str(INTERPRETER), "-I", "-S", "-B", str(START), digest)


ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - in the enclave's memory
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    # One thread each: cores are shared by the job's enclaves, and Occlum's threads are counted.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PWD": "/",
    "PYTHONUNBUFFERED": "1",
    "TMPDIR": "/tmp",  # noqa: S108
    "TZ": "UTC",
}
"""All that an enclave finds in its environment, but for the launch specification. Measured."""

MOUNT_POINTS = ("/dev", "/proc", "/run", "/tmp")  # noqa: S108

_ETC = {
    "/etc/group": "chiron:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "/etc/passwd": "chiron:x:1000:1000:chiron:/tmp:/sbin/nologin\n",
}


@dataclass(frozen=True)
class Source:
    """One file of the image and what it is made of."""

    path: PurePosixPath
    """In the image."""
    origin: Path | bytes
    executable: bool = False


def sources() -> list[Source]:
    """Everything but the shared libraries, the byte code and the entry program, in no particular order.

    Raises:
        ImageUnbuildable: something is missing here.
    """
    return [*_interpreter(), *_stdlib(), *_distributions(), *_ours(), *_configuration()]


def runtime_distributions() -> list[metadata.Distribution]:
    """The distributions in the image: those of the project's extra `enclave`, and what they need, by name.

    Raises:
        ImageUnbuildable: one is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    waiting = _enclave_requirements()
    while waiting:
        name = waiting.pop()
        if name in found or name in UNUSED_DISTRIBUTIONS:
            continue
        found[name] = _distribution(name)
        waiting += _needed_by(found[name])
    return [found[name] for name in sorted(found)]


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise ImageUnbuildable(f"{name} is not installed; run scripts/setup") from error


def _enclave_requirements() -> list[str]:
    """Names that the extra lists; what the project needs without it is the client's."""
    names: list[str] = [
        canonicalize_name(requirement.name)
        for requirement in _requirements(_distribution(PROJECT))
        if not _applies(requirement) and _applies(requirement, EXTRA)
    ]
    if not names:
        raise ImageUnbuildable(f"{PROJECT} is installed without its extra {EXTRA}; run scripts/setup")
    return names


def _needed_by(distribution: metadata.Distribution) -> list[str]:
    """Names that a distribution needs here; of its extras none is asked for."""
    return [canonicalize_name(needed.name) for needed in _requirements(distribution) if _applies(needed)]


def _requirements(distribution: metadata.Distribution) -> list[Requirement]:
    return [Requirement(text) for text in distribution.requires or ()]


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _interpreter() -> Iterator[Source]:
    base = getattr(sys, "_base_executable", None) or sys.executable
    yield Source(INTERPRETER, Path(os.path.realpath(base)), executable=True)


def _stdlib() -> Iterator[Source]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    for file in _files(stdlib):
        relative = PurePosixPath(file.relative_to(stdlib))
        if keeps_stdlib(relative):
            yield Source(STDLIB / relative, file)


def _distributions() -> Iterator[Source]:
    for distribution in runtime_distributions():
        if distribution.files is None:
            raise ImageUnbuildable(f"{distribution.name} has no list of its files; install it from a wheel")
        for file in distribution.files:
            relative = PurePosixPath(file)
            if keeps_packaged(relative):
                yield Source(PACKAGES / relative, Path(str(distribution.locate_file(file))))


def _ours() -> Iterator[Source]:
    root = Path(chiron.__path__[0])
    yield Source(PACKAGES / "chiron/__init__.py", root / "__init__.py")
    for room in OUR_ROOMS:
        for file in _files(root / room):
            relative = PurePosixPath("chiron") / file.relative_to(root)
            if keeps_packaged(relative):
                yield Source(PACKAGES / relative, file)


def _configuration() -> Iterator[Source]:
    yield Source(START, Path(start.__file__))
    for path, text in _ETC.items():
        yield Source(PurePosixPath(path), text.encode())


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", "site-packages", "test")]
        for name in names:
            yield Path(parent, name)
