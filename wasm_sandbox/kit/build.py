"""A project becomes a component: componentize-py compiles it together with `chiron_builder`.

The component's world is made from the project's capabilities, so it imports these interfaces and nothing
else; WASI is stubbed out. Compiling takes some seconds, so components are cached by the digest of all that
goes into them. (componentize-py snapshots a started interpreter, whose hash seed is random: two
compilations of the same sources differ in bytes. The cache is what makes the next build the same.)
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from shutil import copyfile, copytree

from wasm_sandbox.assets import attach_asset
from wasm_sandbox.contract import MAX_COMPONENT_BYTES
from wasm_sandbox.kit.errors import CompilationFailed
from wasm_sandbox.kit.project import Project, read_project
from wasm_sandbox.signatures import PACKAGE, VERSION

_KIT = Path(__file__).parent
_WIT = _KIT.parent / "wit"
_LIBRARY = _KIT / "chiron_builder"
_ENTRY = "chiron_entry"
_COMPILER = "from componentize_py import script; script()"
_COMPILE_SECONDS = 300
_TOLD_CHARACTERS = 4000


def build_project(directory: Path, *, cache: Path | None = None) -> bytes:
    """The component of the project in `directory`.

    `cache` is a directory of earlier components, by default the user's: see `default_cache`.

    Raises:
        ProjectInvalid: the folder is no project.
        CompilationFailed: with what the compiler said.
    """
    project = read_project(directory)
    kept = (cache or default_cache()) / f"{_digest(project)}.wasm"
    if kept.is_file():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory(prefix="chiron-build-") as place:
        component = _compile(project, Path(place))
    for name, path in project.assets().items():
        component = attach_asset(component, name, path.read_bytes())
    if len(component) > MAX_COMPONENT_BYTES:
        raise CompilationFailed(
            f"the component has {len(component):,} bytes, {MAX_COMPONENT_BYTES:,} are allowed"
        )
    _keep(kept, component)
    return component


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/chiron/builders`, or in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "chiron" / "builders"


def _keep(path: Path, component: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Another process may be building the same: the whole file appears at once, or not at all.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(component)
    partial.replace(path)


def _digest(project: Project) -> str:
    """Of everything that the component is made of."""
    digest = hashlib.sha256(f"{version('componentize-py')} {VERSION}".encode())
    for name, content in _parts(project):
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _parts(project: Project) -> Iterator[tuple[str, bytes]]:
    yield "entry", _entry(project).encode()
    yield "world", _world(project).encode()
    for root, paths in (
        (_LIBRARY, sorted(_LIBRARY.glob("*.py"))),
        (_WIT, sorted(_WIT.glob("*.wit"))),
        (project.directory, project.sources()),
        (project.directory, project.assets().values()),
    ):
        for path in paths:
            yield str(path.relative_to(root)), path.read_bytes()


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


def _compile(project: Project, place: Path) -> bytes:
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
