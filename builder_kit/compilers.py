"""A project becomes a component: the two compilers, and what their output depends on.

Python: componentize-py compiles a project together with `chiron_builder`. The component's world is made from
the project's capabilities, so it imports these interfaces and nothing else; WASI is stubbed out.
componentize-py snapshots a started interpreter, whose hash seed is random: two compilations of the same
sources differ in bytes.

C: zig's clang compiles a project with `c/chiron_builder.h`, and nothing else. The component imports nothing,
so it can ask for no capability. The same sources give the same bytes.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import copyfile, copytree

import chiron.wasm_sandbox
from chiron.builder_kit.component import wrapped
from chiron.builder_kit.errors import CompilationFailed, ProjectInvalid
from chiron.builder_kit.project import C_MODULE, Project
from chiron.wasm_sandbox.world import PACKAGE, VERSION

_KIT = Path(__file__).parent
_WIT = Path(chiron.wasm_sandbox.__path__[0]) / "wit"
_LIBRARY = _KIT / "chiron_builder"
_ENTRY = "chiron_entry"
_COMPONENTIZE = "from componentize_py import script; script()"
_PYTHON_SECONDS = 300

_C_HEADERS = _KIT / "c"
_C_TARGET = ("-target", "wasm32-freestanding", "-Os", "-std=c11", "-nostdlib", "-fno-sanitize=all", "-g0")
_C_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function")
_C_LINK = ("-Wl,--no-entry", "-Wl,--export-memory", "-Wl,--strip-all", "-Wl,-z,stack-size=65536")
_C_SECONDS = 120

_OUTPUT_CHARACTERS = 4000
"""The end of a compiler's output that an error shows."""


def python_ingredients(project: Project) -> dict[str, bytes]:
    """All that a component in Python is made of beside the project's own files, by name."""
    files = [*sorted(_LIBRARY.glob("*.py")), *sorted(_WIT.glob("*.wit"))]
    return {
        "compiler": f"componentize-py {version('componentize-py')}".encode(),
        "entry": _entry(project).encode(),
        "world": _world(project).encode(),
        **{str(path.relative_to(_KIT.parent)): path.read_bytes() for path in files},
    }


def python_component(project: Project, place: Path) -> bytes:
    """Compile a project in Python, in the empty directory `place`; raises `CompilationFailed`."""
    wit, app = place / "wit", place / "app"
    copytree(_WIT, wit)
    (wit / "project.wit").write_text(_world(project))
    for source in project.sources():
        target = app / source.relative_to(project.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(source, target)
    (app / f"{_ENTRY}.py").write_text(_entry(project))
    (app / "chiron_builder").mkdir()
    for source in _LIBRARY.glob("*.py"):
        copyfile(source, app / "chiron_builder" / source.name)
    # An empty environment, so that the compiler does not search this one's packages.
    (place / "environment" / "site-packages").mkdir(parents=True)
    output = place / "builder.wasm"
    command = [
        *(sys.executable, "-c", _COMPONENTIZE, "--quiet", "--wit-path", str(wit), "--world", "project"),
        *("componentize", "--stub-wasi", "--python-path", str(app), "--output", str(output), _ENTRY),
    ]
    environment = {"VIRTUAL_ENV": str(place / "environment"), "PYTHONDONTWRITEBYTECODE": "1"}
    _run(command, environment, seconds=_PYTHON_SECONDS, working_directory=place)
    return output.read_bytes()


def _world(project: Project) -> str:
    base = "bare-builder-with-revision" if project.settings.revises else "bare-builder"
    imports = "".join(f"  import {name};\n" for name in sorted(project.settings.capabilities))
    return f"package {PACKAGE}@{VERSION};\n\nworld project {{\n  include {base};\n{imports}}}\n"


def _entry(project: Project) -> str:
    """The module whose class exports the world's functions."""
    lines = [
        "import builder",
        "import wit_world",
        "from chiron_builder import entry",
        "",
        "",
        "class WitWorld(wit_world.WitWorld):",
        "    def build(self, request):",
        "        return entry.run_build(builder.build, request)",
    ]
    if project.settings.revises:
        lines += [
            "",
            "    def revise(self, request):",
            "        return entry.run_revise(builder.revise, request)",
        ]
    return "\n".join(lines) + "\n"


def c_ingredients(project: Project) -> dict[str, bytes]:
    """All that a component in C is made of beside the project's own files, by name.

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
    header = (_C_HEADERS / "chiron_builder.h").read_bytes()
    options = " ".join((*_C_TARGET, *_C_WARNINGS, *_C_LINK))
    return {"compiler": f"ziglang {compiler} {options}".encode(), "header": header}


def c_component(project: Project, place: Path) -> bytes:
    """Compile a project in C, in the empty directory `place`; raises `CompilationFailed`."""
    output = place / "builder.core.wasm"
    command = [
        *(sys.executable, "-m", "ziglang", "cc", *_C_TARGET, *_C_WARNINGS, *_C_LINK),
        *("-I", str(_C_HEADERS), "-o", str(output), str(project.directory / C_MODULE)),
    ]
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(place / "zig"), "ZIG_LOCAL_CACHE_DIR": str(place / "zig")}
    _run(command, caches, seconds=_C_SECONDS)
    return wrapped(output.read_bytes())


def _run(
    command: list[str],
    environment: Mapping[str, str],
    *,
    seconds: int,
    working_directory: Path | None = None,
) -> None:
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter and arguments
            command,
            cwd=working_directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompilationFailed(f"the compiler took longer than {seconds} s") from error
    if result.returncode != 0:
        raise CompilationFailed((result.stderr or result.stdout)[-_OUTPUT_CHARACTERS:].strip())
