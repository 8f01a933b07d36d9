"""A project in C becomes a component: zig's clang compiles it with `c/chiron_builder.h`, and nothing else.

It imports nothing, so it can ask for no capability. The same sources give the same bytes.
"""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from chiron.builder_kit.component import wrapped
from chiron.builder_kit.errors import CompilationFailed, ProjectInvalid
from chiron.builder_kit.project import C_MODULE, Project

_HEADERS = Path(__file__).parent / "c"
_TARGET = ("-target", "wasm32-freestanding", "-Os", "-std=c11", "-nostdlib", "-fno-sanitize=all", "-g0")
_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function")
_LINK = ("-Wl,--no-entry", "-Wl,--export-memory", "-Wl,--strip-all", "-Wl,-z,stack-size=65536")
_COMPILE_SECONDS = 120
_TOLD_CHARACTERS = 4000


def c_ingredients(project: Project) -> dict[str, bytes]:
    """By name, all that the component is made of beside the project's own files.

    Raises:
        ProjectInvalid: it asks for capabilities or revisions, which the header does not have.
        CompilationFailed: there is no compiler.
    """
    if project.settings.capabilities or project.settings.revises:
        raise ProjectInvalid("builders in C import no capability and do not revise: see chiron_builder.h")
    try:
        compiler = version("ziglang")
    except PackageNotFoundError as error:
        raise CompilationFailed("builders in C need a compiler: pip install ziglang") from error
    header = (_HEADERS / "chiron_builder.h").read_bytes()
    options = " ".join((*_TARGET, *_WARNINGS, *_LINK))
    return {"compiler": f"ziglang {compiler} {options}".encode(), "header": header}


def c_component(project: Project, place: Path) -> bytes:
    """Compile in the empty directory `place`; raises `CompilationFailed`."""
    output = place / "builder.core.wasm"
    command = [
        *(sys.executable, "-m", "ziglang", "cc", *_TARGET, *_WARNINGS, *_LINK),
        *("-I", str(_HEADERS), "-o", str(output), str(project.directory / C_MODULE)),
    ]
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(place / "zig"), "ZIG_LOCAL_CACHE_DIR": str(place / "zig")}
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter and arguments
            command,
            env={**os.environ, **caches},
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompilationFailed(f"the compiler took longer than {_COMPILE_SECONDS} s") from error
    if result.returncode != 0:
        raise CompilationFailed(result.stderr[-_TOLD_CHARACTERS:].strip())
    return wrapped(output.read_bytes())
