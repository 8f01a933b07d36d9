"""Compiles the image's entry program (entry.c): the same bytes on every machine.

The compiler is Zig's, out of a wheel that the lock pins, so that a measurement does not depend on the
machine's own.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from chiron.enclave_image.errors import ImageUnbuildable
from chiron.wire.launch import LAUNCH_VARIABLE

SOURCE = Path(__file__).parent / "entry.c"
_GLIBC = "2.31"
"""The oldest that Occlum has; a program for it runs with any newer one."""
_OPTIONS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-s", "-fPIE", "-pie", "-mcpu=baseline", "-Wl,-z,now")
_WARNINGS = ("-Wall", "-Wextra", "-Werror")
_SECONDS = 300


def compile_entry_program(arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """A program that becomes `arguments`, with `environment` and the launch specification.

    Raises:
        ImageUnbuildable: there is no compiler here, or it failed.
    """
    if find_spec("ziglang") is None:
        raise ImageUnbuildable("the entry program needs a compiler: pip install ziglang")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "entry.h").write_text(header(arguments, environment))
        (place / SOURCE.name).write_bytes(SOURCE.read_bytes())
        target = f"{platform.machine()}-linux-gnu.{_GLIBC}"
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *_OPTIONS, *_WARNINGS]
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        try:
            # A relative name: nothing tells where it was compiled.
            result = subprocess.run(  # noqa: S603 - our own interpreter and arguments
                [*command, "-o", "entry", SOURCE.name],
                cwd=place,
                env={**os.environ, **caches},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ImageUnbuildable("the compiler of the entry program took too long") from error
        if result.returncode != 0:
            raise ImageUnbuildable(f"the entry program does not compile: {result.stderr.strip()[-500:]}")
        return (place / "entry").read_bytes()


def header(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """entry.h: what entry.c leaves open."""
    variables = [f"{name}={value}" for name, value in sorted(environment.items())]
    return (
        f"#define LAUNCH {_quoted(LAUNCH_VARIABLE + '=')}\n"
        f"#define ARGUMENTS {', '.join(map(_quoted, arguments))}\n"
        f"#define ENVIRONMENT {', '.join(map(_quoted, variables))}\n"
    )


def _quoted(text: str) -> str:
    if not all(" " <= character <= "~" and character not in '"\\?' for character in text):
        raise ImageUnbuildable(f"{text!r} cannot be written into the entry program")
    return f'"{text}"'
