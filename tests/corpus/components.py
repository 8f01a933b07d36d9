"""How the corpus' sources become components; slow builds are kept in `build/corpus`, by their sources."""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from wasmtime import wat2wasm

from chiron.builder_kit.component import wrapped

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent
WIT = ROOT / "wasm_sandbox" / "wit"
BUILT = ROOT / "build" / "corpus"
MODULES = ROOT / "build" / "modules"
"""Compiled components, as `Sandbox(cache=…)` keeps them."""

_CORE = "(core module $code)"
_INCLUDE = ";; include types.part"


def from_wat(source: str, *, log: bool = False) -> bytes:
    """A component of a whole component's text, or of a core module's, put into our world."""
    if "(component" not in source and "(core module $code" in source:
        source = _part("world-with-log" if log else "world").replace(_CORE, source)
    return bytes(wat2wasm(source.replace(_INCLUDE, _part("types"))))


def _part(name: str) -> str:
    return (CORPUS / "wat" / f"{name}.part").read_text()


def from_c(source: Path) -> bytes:
    """A component of a C file that exports `build`, `realloc` and its memory."""
    parts = [source.read_bytes(), *(header.read_bytes() for header in sorted(source.parent.glob("*.h")))]
    return wrapped(kept(source.stem, parts, lambda output: _zig(source, output)))


def _zig(source: Path, output: Path) -> None:
    flags = ["-target", "wasm32-freestanding", "-Os", "-nostdlib", "-fno-sanitize=all"]
    link = ["-Wl,--no-entry", "-Wl,--export-memory", "-Wl,-z,stack-size=65536"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, *link, "-o", str(output), str(source)]
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": place, "ZIG_LOCAL_CACHE_DIR": place}
        subprocess.run(command, check=True, env=environment, capture_output=True)


def from_python(sources: Sequence[Path], *, name: str) -> bytes:
    """One component of all modules; `request.trial` chooses which one's `build` (and `revise`) answers."""
    content = [path.read_bytes() for path in sources] + [
        path.read_bytes() for path in sorted(WIT.glob("*.wit"))
    ]
    facts = [version("componentize-py").encode(), _entry(sources).encode()]
    return kept(name, [*facts, *content], lambda output: _componentize(sources, output))


def _entry(sources: Sequence[Path]) -> str:
    modules = [path.stem for path in sources]
    return f"""
import {", ".join(modules)}
import wit_world

MODULES = [{", ".join(modules)}]


class WitWorld(wit_world.WitWorld):
    def build(self, request):
        return MODULES[request.trial].build(request)

    def revise(self, request):
        return MODULES[request.trial].revise(request)
"""


def _componentize(sources: Sequence[Path], output: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        for path in sources:
            (Path(place) / path.name).write_bytes(path.read_bytes())
        (Path(place) / "corpus_entry.py").write_text(_entry(sources))
        program = "from componentize_py import script; script()"
        world = ["-d", str(WIT), "-w", "model-builder-with-revision"]
        options = ["--stub-wasi", "-p", place, "-o", str(output), "corpus_entry"]
        subprocess.run(
            [sys.executable, "-c", program, "-q", *world, "componentize", *options],
            check=True,
            cwd=place,
            env={**os.environ, "VIRTUAL_ENV": place},
            capture_output=True,
        )


def kept(name: str, parts: Sequence[bytes], build: Callable[[Path], None]) -> bytes:
    """What `build` writes to the path it is given: once for the same parts, however many processes ask."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]
    BUILT.mkdir(parents=True, exist_ok=True)
    path = BUILT / f"{name}-{digest}.wasm"
    with (BUILT / f"{path.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            partial = path.with_suffix(".partial.wasm")
            build(partial)
            partial.replace(path)
    return path.read_bytes()
