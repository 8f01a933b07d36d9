"""What is in the image and what is not: looked at from outside, and from inside with nothing else there."""

import json
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from chiron.api.launchers.bubblewrap import find_bubblewrap
from chiron.enclave_image.build import bytecode_path
from chiron.enclave_image.contents import ENTRY_POINT, INTERPRETER, PACKAGES
from chiron.enclave_image.manifest import ROOT, File, read_manifest

IMPORT_ALL = """
import importlib, importlib.util, json, pkgutil, sys

failed = {}
for name in ("chiron",):
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        try:
            importlib.import_module(found.name)
        except Exception as error:
            failed[found.name] = repr(error)
absent = json.loads(sys.argv[1])
print(json.dumps({
    "failed": failed,
    "found": [name for name in absent if importlib.util.find_spec(name)],
    "imported": sorted(sys.modules),
    "outside": sorted({m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)
                       and not m.__file__.startswith("/opt/")}),
    "path": sys.path,
}))
"""
FOUND = f"import sys; sys.path.append({str(PACKAGES)!r})\n"
NEVER_INSIDE = (
    "torch",
    "pip",
    "setuptools",
    "ensurepip",
    "venv",
    "chiron.api",
    "chiron.cli",
    "chiron.client",
    "chiron.enclave_image",
    "pytest",
    "hypothesis",
    "componentize_py",
    "sqlalchemy",
    "sklearn",
    "tkinter",
    "idlelib",
    "chiron.builder_kit",
)


@pytest.fixture(scope="module")
def inside(image: Path) -> dict[str, Any]:
    """What the image's interpreter says with the image as its only file system."""
    command = [str(find_bubblewrap()), "--unshare-all", "--ro-bind", str(image / ROOT), "/"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--clearenv", "--"]  # noqa: S108
    command += [str(INTERPRETER), "-I", "-B", "-c", FOUND + IMPORT_ALL, json.dumps(NEVER_INSIDE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_every_module_of_ours_can_be_imported(inside: dict[str, Any]) -> None:
    assert inside["failed"] == {}
    assert "chiron.runtime.roles.trainer" in inside["imported"]


def test_no_torch_pip_compiler_front_end_test_or_control_plane_is_in_it(inside: dict[str, Any]) -> None:
    assert inside["found"] == []


def test_code_comes_from_the_measured_prefixes_only(inside: dict[str, Any]) -> None:
    assert inside["outside"] == []
    assert all(path.startswith("/opt/") for path in inside["path"])


def test_no_shell_compiler_archive_header_or_test_is_in_it(image: Path) -> None:
    paths = [entry.path for entry in read_manifest(image).entries]
    names = {path.rsplit("/", 1)[1] for path in paths}
    assert not names & {"sh", "bash", "cc", "gcc", "ld", "pip", "apt", "busybox"}
    assert not [path for path in paths if path.endswith((".a", ".h", ".c", ".pyi"))]
    assert not [
        path for path in paths if "/tests/" in path or "/test/" in path or "/site-packages/pip" in path
    ]


def test_only_the_entry_program_the_interpreter_and_the_loader_can_be_executed(image: Path) -> None:
    manifest = read_manifest(image)
    executable = [e.path for e in manifest.entries if isinstance(e, File) and e.executable]
    assert len(executable) == 3
    assert ENTRY_POINT[0] in executable
    assert any(path.startswith("/opt/python/bin/python3.") for path in executable)
    assert any("/ld-" in path for path in executable)


def test_the_entry_program_lies_alone(image: Path) -> None:
    folder = PurePosixPath(ENTRY_POINT[0]).parent
    paths = [e.path for e in read_manifest(image).entries if PurePosixPath(e.path).is_relative_to(folder)]
    assert paths == [str(folder), *ENTRY_POINT]


def test_every_source_has_its_byte_code(image: Path) -> None:
    paths = {entry.path for entry in read_manifest(image).entries}
    sources = [path for path in paths if path.endswith(".py")]
    assert len(sources) > 1000
    missing = [path for path in sources if str(bytecode_path(PurePosixPath(path))) not in paths]
    assert missing == []
