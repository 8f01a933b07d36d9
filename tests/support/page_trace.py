"""Runs a Python module under a Valgrind tool of our own that traces addresses (page_trace.c, page_marks.c).

Valgrind knows no AVX-512: what is traced are the kernels that NumPy and the engine have for AVX2.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT

_SUPPORT = Path(__file__).parent
_TOOL = f"page_trace-{'amd64' if platform.machine() == 'x86_64' else platform.machine()}-linux"
_HEADERS = Path("/usr/include/valgrind")
_ARCHIVES = Path(f"/usr/lib/{platform.machine()}-linux-gnu/valgrind")
_CORE = Path("/usr/libexec/valgrind")
_TARGET = ("-DVGA_amd64=1", "-DVGO_linux=1", "-DVGP_amd64_linux=1", "-DVGPV_amd64_linux_vanilla=1")
_STANDALONE = ("-static", "-nodefaultlibs", "-nostartfiles", "-no-pie", "-u", "_start", "-Wl,--build-id=none")
_ADDRESS = "-Wl,-Ttext-segment=0x58000000"
"""Where Valgrind's own tools lie, out of a program's way."""
TIMEOUT_S = 900


def available() -> bool:
    """Whether this machine has Valgrind, with what its tools are built of, and a compiler."""
    parts = (_HEADERS / "pub_tool_basics.h", _ARCHIVES / "libcoregrind-amd64-linux.a", _CORE / "default.supp")
    return all(part.exists() for part in parts) and bool(shutil.which("valgrind") and shutil.which("cc"))


def build(folder: Path) -> None:
    """Compile the tool and the marks into `folder`."""
    for part in _CORE.iterdir():
        (folder / part.name).symlink_to(part)
    plain = ("-O2", "-fno-stack-protector", "-fno-builtin", "-fno-pie", "-w")
    source = ("-c", _SUPPORT / "page_trace.c", "-o", folder / "page_trace.o")
    subprocess.run(["cc", *plain, *_TARGET, "-I", _HEADERS, *source], check=True, timeout=120)
    archives = [_ARCHIVES / f"lib{name}-amd64-linux.a" for name in ("coregrind", "vex", "gcc-sup")]
    subprocess.run(
        ["cc", *_STANDALONE, _ADDRESS, "-o", folder / _TOOL, folder / "page_trace.o", *archives, "-lgcc"],
        check=True,
        timeout=120,
    )
    marks = ("-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", folder / "page_marks.so")
    subprocess.run(["cc", *marks, _SUPPORT / "page_marks.c"], check=True, timeout=120)


def run(folder: Path, module: str, *arguments: str) -> None:
    """Run a module of ours under the tool, on one thread and with nothing of Python left to chance."""
    environment = os.environ | {
        "VALGRIND_LIB": str(folder),
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = ["valgrind", "-q", "--tool=page_trace", sys.executable, "-m", module, str(folder), *arguments]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=TIMEOUT_S)
