"""A project becomes a component, with its assets attached.

Compiling takes some seconds, so components are cached by the digest of all that goes into them; the cache
also makes the next build the same where the compiler does not.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from chiron.builder_kit.compilers import c_component, c_ingredients, python_component, python_ingredients
from chiron.builder_kit.errors import CompilationFailed
from chiron.builder_kit.project import Language, Project, read_project
from chiron.wasm_sandbox.assets import attach_asset
from chiron.wire.contract import MAX_COMPONENT_BYTES

_COMPILERS = {Language.PYTHON: python_component, Language.C: c_component}
_INGREDIENTS = {Language.PYTHON: python_ingredients, Language.C: c_ingredients}


def build_project(directory: Path, *, cache: Path | None = None) -> bytes:
    """The component of the project in `directory`.

    `cache` is a directory of earlier components, by default the user's: see `default_cache`.

    Raises:
        ProjectInvalid: the folder is no project.
        CompilationFailed: with what the compiler said, or where the component is too large.
    """
    project = read_project(directory)
    kept = (cache or default_cache()) / f"{_digest(project)}.wasm"
    if kept.is_file():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory(prefix="chiron-build-") as place:
        component = _COMPILERS[project.language](project, Path(place))
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
    """Digest of everything that the component is made of."""
    files = [*project.sources(), *project.assets().values()]
    parts = {
        **_INGREDIENTS[project.language](project),
        **{f"project/{path.relative_to(project.directory)}": path.read_bytes() for path in files},
        **{f"asset/{name}": path.name.encode() for name, path in project.assets().items()},
    }
    digest = hashlib.sha256()
    for name, content in sorted(parts.items()):
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
    return digest.hexdigest()
