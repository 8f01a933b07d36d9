"""What is left out of the image: all that no role imports. Less code is less to trust and to measure.

`tests/image` starts every role from the image alone, so that what is missing is missed there.
"""

import fnmatch
from pathlib import PurePosixPath

UNUSED_DISTRIBUTIONS = frozenset(
    {
        # onnxruntime-training-cpu declares these for converters and PyTorch front ends that we do not ship.
        "cerberus",
        "h5py",
        "mpmath",
        "packaging",
        "setuptools",
        "sympy",
        # cffi parses C with it, at build only.
        "pycparser",
    }
)
"""Declared by what we depend on, imported by nothing that runs in an enclave."""

UNUSED_STDLIB = frozenset(
    {
        "EXTERNALLY-MANAGED",
        "LICENSE.txt",
        "antigravity.py",
        "crypt.py",
        "curses",
        "dbm",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "nis.py",
        "pydoc_data",
        "site-packages",
        "dist-packages",
        "sitecustomize.py",
        "sqlite3",
        "test",
        "this.py",
        "tkinter",
        "turtle.py",
        "turtledemo",
        "venv",
    }
)
"""Names at the top of the standard library."""

_UNUSED_EXTENSIONS = (
    "_crypt.*",
    "_ctypes_test.*",
    "_curses*",
    "_dbm.*",
    "_gdbm.*",
    "_sqlite3.*",
    "_test*",
    "_tkinter.*",
    "_xx*",
    "nis.*",
    "ossaudiodev.*",
    "readline.*",
    "xx*",
)

_UNUSED_ANYWHERE = (
    "*.a",
    "*.c",
    "*.cc",
    "*.cpp",
    "*.cu",
    "*.cuh",
    "*.h",
    "*.hpp",
    "*.md",
    "*.pxd",
    "*.pyc",
    "*.pyi",
    "*.pyx",
    "py.typed",
)

_UNUSED_FOLDERS = frozenset({"__pycache__", "include", "test", "tests", "testing", "pkgconfig"})

_UNUSED_IN_PACKAGES = frozenset(
    {
        "bin",
        "google/protobuf/compiler",
        "numpy/_pyinstaller",
        "numpy/conftest.py",
        "numpy/f2py",
        "onnx/backend",
        "onnx/bin",
        "onnxruntime/backend",
        "onnxruntime/datasets",
        "onnxruntime/quantization",
        "onnxruntime/tools/mobile_helpers",
        "onnxruntime/tools/qdq_helpers",
        "onnxruntime/training/experimental",
        "onnxruntime/training/ort_triton",
        "onnxruntime/training/ortmodule",
        "onnxruntime/training/utils",
        "onnxruntime/transformers",
    }
)
"""Files and folders of site-packages: front ends of other frameworks, converters."""

_KEPT_METADATA = frozenset({"METADATA"})
"""The files of a distribution's .dist-info that stay: they tell its version. RECORD and others name how it
was installed, and licences are in the bill of materials."""


def keeps_stdlib(path: PurePosixPath) -> bool:
    """Whether a file of the standard library, relative to it, belongs into the image."""
    if path.parts[0] in UNUSED_STDLIB or path.parts[0].startswith("config-"):
        return False
    if path.parts[0] == "lib-dynload" and _matches(path.name, _UNUSED_EXTENSIONS):
        return False
    return _keeps_anywhere(path)


def keeps_packaged(path: PurePosixPath) -> bool:
    """Whether a file of a distribution or of ours, relative to site-packages, belongs into the image."""
    if ".." in path.parts or path.is_absolute():
        return False  # Scripts and manual pages, outside of site-packages.
    if path.parts[0].endswith(".dist-info"):
        return path.name in _KEPT_METADATA and len(path.parts) == 2
    parents = {str(parent) for parent in path.parents} | {str(path)}
    return not parents & _UNUSED_IN_PACKAGES and _keeps_anywhere(path)


def _keeps_anywhere(path: PurePosixPath) -> bool:
    return not _UNUSED_FOLDERS & set(path.parts[:-1]) and not _matches(path.name, _UNUSED_ANYWHERE)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
