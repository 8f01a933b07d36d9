"""The corpus as cases: a source, the component or graph built of it, and the code it must end with."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path

from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wire.contract import Capability, CapabilityGrants
from tests.corpus.components import CORPUS, from_c, from_python, from_wat

QUICK = SandboxLimits(fuel=20_000_000, run_seconds=60, compile_seconds=120)
"""What a case may use, unless it says otherwise."""
QUICK_PYTHON = SandboxLimits(fuel=100_000_000, run_seconds=60, compile_seconds=120)
"""Starting the interpreter takes 11 million."""
_HOSTILE_PYTHON = sorted((CORPUS / "python").glob("*.py"))
_PROBES = sorted((CORPUS.parent / "wasm_sandbox" / "probes").glob("*.py"))
_HEADER = re.compile(r"^(?:;;|#|//) (expects|limits|grants|imports): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class BuilderCase:
    """A hostile builder."""

    name: str
    expects: str
    limits: SandboxLimits
    grants: CapabilityGrants
    make: Callable[[], bytes] = field(repr=False)
    trial: int = 0
    """Which module of the Python component answers."""

    @cached_property
    def component(self) -> bytes:
        """Built when it is first asked for."""
        return self.make()


def wat_cases() -> Iterator[BuilderCase]:
    """Of `wat/`."""
    for path in sorted((CORPUS / "wat").glob("*.wat")):
        text = path.read_text()
        log = "imports" in _header(text)
        yield _case(path, text, QUICK, partial(from_wat, text, log=log))


def c_cases() -> Iterator[BuilderCase]:
    """Of `c/`."""
    for path in sorted((CORPUS / "c").glob("*.c")):
        yield _case(path, path.read_text(), QUICK, partial(from_c, path))


def python_cases() -> Iterator[BuilderCase]:
    """Of `python/`: one component holds them all."""
    for trial, path in enumerate(_HOSTILE_PYTHON):
        yield _case(path, path.read_text(), QUICK_PYTHON, python_component, trial)


@cache
def python_component() -> bytes:
    """One component of the hostile modules and then the tests' own probes, since compiling takes long."""
    return from_python([*_HOSTILE_PYTHON, *_PROBES], name="python")


def probe_trial(name: str) -> int:
    """Which trial number makes the probe of this name answer."""
    return len(_HOSTILE_PYTHON) + [path.stem for path in _PROBES].index(name)


def builder_cases() -> list[BuilderCase]:
    """All hostile builders."""
    return [*wat_cases(), *c_cases(), *python_cases()]


def _header(text: str) -> dict[str, str]:
    return {key: value.strip() for key, value in _HEADER.findall(text)}


def _case(
    path: Path, text: str, limits: SandboxLimits, make: Callable[[], bytes], trial: int = 0
) -> BuilderCase:
    header = _header(text)
    changes = dict(setting.split("=") for setting in header.get("limits", "").split())
    granted = frozenset(Capability)
    if "grants" in header:
        granted = frozenset(map(Capability, header["grants"].split()))
    return BuilderCase(
        name=f"{path.parent.name}/{path.stem}",
        expects=header["expects"],
        limits=SandboxLimits.model_validate({**limits.model_dump(), **changes}),
        grants=CapabilityGrants(
            granted=granted, sample_examples=4 if Capability.DATASET_SAMPLE in granted else 0
        ),
        make=make,
        trial=trial,
    )
