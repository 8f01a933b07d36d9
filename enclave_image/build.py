"""Builds the image directory: from the same inputs the same bytes, wherever and whenever it is built.

The inputs are the interpreter, the C library and the locked packages of this machine, and our source. Modes
and times are fixed, byte code is compiled reproducibly, and nothing names the folder or user that built it.

CPython's `py_compile` is not reproducible: whether `marshal` writes a back reference depends on how often an
object happens to be referenced in the compiling process. Format version 2 has no back references.
"""

import fcntl
import hashlib
import importlib.util
import marshal
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from chiron.enclave_image import start
from chiron.enclave_image.contents import (
    ENTRY_POINT,
    ENVIRONMENT,
    MOUNT_POINTS,
    Source,
    runtime_distributions,
    sources,
    started,
)
from chiron.enclave_image.elf import is_elf, shared_libraries
from chiron.enclave_image.entry_program import SOURCE, compile_entry_program
from chiron.enclave_image.errors import ImageInvalid
from chiron.enclave_image.manifest import MANIFEST, ROOT, SBOM, ImageManifest, read_manifest
from chiron.enclave_image.measurement import examine, list_entries
from chiron.enclave_image.recording import Recorder
from chiron.enclave_image.sbom import bill_of_materials
from chiron.wire.encoding import sha256_hex

INPUTS = ".inputs"
"""Digest of what the image was built from, so that building it again is quick if nothing changed."""
_MTIME = 315_532_800
"""1980-01-01T00:00:00Z, of everything: the first that zip files can hold too."""
_UNCHECKED_HASH_BASED = 0b01
"""Flag of a .pyc that the interpreter loads without a look at the source (PEP 552)."""
_MARSHAL_WITHOUT_REFERENCES = 2

Report = Callable[[str], None]


def build_image(
    directory: Path, *, report: Report = lambda _: None, recorder: Recorder | None = None
) -> ImageManifest:
    """Build the image in `directory`, or find that it is there already and what it should be.

    `report` is told of each stage. An image that was there is replaced when the new one is complete. With a
    `recorder` the build is in its transparency log, and the proof of that beside the image.

    Raises:
        ImageUnbuildable: something that belongs into it is missing here.
        LogCorrupted: the build could not be recorded; the image is there, without a proof.
        OSError: `directory` cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        report("collecting files")
        files = _with_libraries(sources())
        inputs = _inputs_digest(files)
        manifest = _present(directory, inputs)
        if manifest is not None:
            report("nothing has changed")
        else:
            manifest = _built(directory, files, inputs, report)
        if recorder is not None:
            report("recording")
            recorder.record(manifest.measurement, directory, datetime.now(UTC))
    return manifest


def bytecode_path(source: PurePosixPath) -> PurePosixPath:
    """Where the interpreter looks for the byte code of `source`."""
    return PurePosixPath(importlib.util.cache_from_source(str(source)))


def compile_source(source: bytes, path: PurePosixPath) -> bytes:
    """The .pyc of `source`, whose place in the image is `path`.

    Raises:
        SyntaxError, ValueError: it is not Python of this version (template files are such).
    """
    code = compile(source, str(path), "exec", dont_inherit=True, optimize=0)
    flags = _UNCHECKED_HASH_BASED.to_bytes(4, "little")
    source_hash = importlib.util.source_hash(source)
    body = marshal.dumps(code, _MARSHAL_WITHOUT_REFERENCES)
    return importlib.util.MAGIC_NUMBER + flags + source_hash + body


def _built(directory: Path, files: list[Source], inputs: str, report: Report) -> ImageManifest:
    fresh = directory.with_name(f"{directory.name}.new")
    _remove(fresh)
    report(f"copying {len(files)} files")
    _write(fresh / ROOT, files)
    report("compiling")
    _compile(fresh / ROOT, files)
    write_entry_program(fresh / ROOT)
    report("measuring")
    manifest = ImageManifest(
        entry_point=ENTRY_POINT,
        environment=ENVIRONMENT,
        entries=list_entries(_settled(fresh / ROOT)),
    )
    (fresh / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
    (fresh / SBOM).write_text(bill_of_materials(manifest, runtime_distributions()))
    (fresh / INPUTS).write_text(inputs)
    _replace(directory, fresh)
    return manifest


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One builder of a directory at a time; the others wait and find its work done."""
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _with_libraries(files: list[Source]) -> list[Source]:
    origins = [source.origin for source in files if isinstance(source.origin, Path)]
    programs = [origin for origin in origins if is_elf(origin)]
    libraries = [
        # The kernel opens a program's loader as a program.
        Source(place, library, executable=library.name.startswith("ld-"))
        for place, library in shared_libraries(programs, origins).items()
    ]
    return sorted([*files, *libraries], key=lambda source: source.path)


def _inputs_digest(files: list[Source]) -> str:
    """Changes if any input was touched, or the way of building."""
    digest = hashlib.sha256()
    for module in (SOURCE, *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(module.read_bytes())
    for source in files:
        digest.update(f"{source.path}\0{source.executable}\0".encode())
        if isinstance(source.origin, bytes):
            digest.update(source.origin)
        else:
            status = source.origin.stat()
            digest.update(f"{source.origin}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _present(directory: Path, inputs: str) -> ImageManifest | None:
    """The image that is there, if it was built from these inputs and nobody changed it since."""
    try:
        if (directory / INPUTS).read_text() != inputs:
            return None
        recorded = read_manifest(directory)
        return recorded if examine(directory) == recorded else None
    except (OSError, ImageInvalid):
        return None


def _write(root: Path, files: list[Source]) -> None:
    for source in files:
        target = _inside(root, source.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source.origin, bytes):
            target.write_bytes(source.origin)
        else:
            shutil.copyfile(source.origin, target)
        target.chmod(0o755 if source.executable else 0o644)
    for folder in MOUNT_POINTS:
        _inside(root, PurePosixPath(folder)).mkdir(exist_ok=True)


def _compile(root: Path, files: list[Source]) -> None:
    for source in files:
        if source.path.suffix != ".py":
            continue
        target = _inside(root, bytecode_path(source.path))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(compile_source(_inside(root, source.path).read_bytes(), source.path))
        target.chmod(0o644)


def write_entry_program(root: Path) -> None:
    """The list of what is there, and the program that starts all of it, with the list's digest in it."""
    listed = start.described(str(root)).encode()
    _inside(root, PurePosixPath(start.LIST)).write_bytes(listed)
    program = _inside(root, PurePosixPath(start.ENTRY_PROGRAM))
    program.parent.mkdir()
    program.write_bytes(compile_entry_program(started(sha256_hex(listed)), ENVIRONMENT))
    program.chmod(0o755)
    _inside(root, PurePosixPath(start.LIST)).chmod(0o644)


def _settled(root: Path) -> Path:
    """`root` with fixed modes of its folders and fixed times of everything, deepest first."""
    for parent, folders, names in os.walk(root, topdown=False):
        for name in (*names, *folders):
            os.utime(Path(parent, name), (_MTIME, _MTIME), follow_symlinks=False)
        Path(parent).chmod(0o755)
    os.utime(root, (_MTIME, _MTIME))
    return root


def _replace(directory: Path, fresh: Path) -> None:
    old = directory.with_name(f"{directory.name}.old")
    _remove(old)
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    _remove(old)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _inside(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")
