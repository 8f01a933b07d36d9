"""A project in Python becomes a component: componentize-py compiles it together with `chiron_builder`.

The component's world is made from the project's capabilities, so it imports these interfaces and nothing
else; WASI is stubbed out. componentize-py snapshots a started interpreter, whose hash seed is random: two
compilations of the same sources differ in bytes.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import copyfile, copytree

import chiron.wasm_sandbox
from chiron.builder_kit.errors import CompilationFailed
from chiron.builder_kit.project import Project
from chiron.wasm_sandbox.world import PACKAGE, VERSION

KIT = Path(__file__).parent
WIT = Path(chiron.wasm_sandbox.__path__[0]) / "wit"
LIBRARY = KIT / "chiron_builder"
_ENTRY = "chiron_entry"
_COMPILER = "from componentize_py import script; script()"
_COMPILE_SECONDS = 300
_TOLD_CHARACTERS = 4000


def python_ingredients(project: Project) -> dict[str, bytes]:
    """By name, all that the component is made of beside the project's own files."""
    files = [*sorted(LIBRARY.glob("*.py")), *sorted(WIT.glob("*.wit"))]
    return {
        "compiler": f"componentize-py {version('componentize-py')}".encode(),
        "entry": _entry(project).encode(),
        "world": _world(project).encode(),
        **{str(path.relative_to(KIT.parent)): path.read_bytes() for path in files},
    }


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
            "    def revise(self, request, history):",
            "        return entry.run_revise(builder.revise, request, history)",
        ]
    return "\n".join(lines) + "\n"


def python_component(project: Project, place: Path) -> bytes:
    """Compile in the empty directory `place`; raises `CompilationFailed`."""
    wit, app = place / "wit", place / "app"
    copytree(WIT, wit)
    (wit / "project.wit").write_text(_world(project))
    for source in project.sources():
        target = app / source.relative_to(project.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(source, target)
    (app / f"{_ENTRY}.py").write_text(_entry(project))
    (app / "chiron_builder").mkdir()
    for source in LIBRARY.glob("*.py"):
        copyfile(source, app / "chiron_builder" / source.name)
    # An empty environment, so that the compiler does not search this one's packages.
    (place / "environment" / "site-packages").mkdir(parents=True)
    output = place / "builder.wasm"
    command = [
        *(sys.executable, "-c", _COMPILER, "--quiet", "--wit-path", str(wit), "--world", "project"),
        *("componentize", "--stub-wasi", "--python-path", str(app), "--output", str(output), _ENTRY),
    ]
    _run(command, place)
    return output.read_bytes()


def _run(command: list[str], place: Path) -> None:
    environment = {**os.environ, "VIRTUAL_ENV": str(place / "environment"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter and arguments
            command,
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompilationFailed(f"the compiler took longer than {_COMPILE_SECONDS} s") from error
    if result.returncode != 0:
        raise CompilationFailed((result.stderr or result.stdout)[-_TOLD_CHARACTERS:].strip())
