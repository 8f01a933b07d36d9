"""All example builders in one component, since compiling one takes seconds: the trial number picks."""

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile

import pytest

from chiron.builder_kit.build import build_project
from chiron.builder_kit.project import Project, new_project, read_project
from chiron.wasm_sandbox.capability_data import CapabilityData
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.sandbox import BuilderOutput, Sandbox
from chiron.wire.contract import BuildRequest, Capability, CapabilityGrants

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent.name for path in (ROOT / "builders").glob("*/builder.py"))
TEMPLATE, PROBE = "template", "probe"
MODULES = [*EXAMPLES, TEMPLATE, PROBE]
GRANTS = CapabilityGrants(granted=frozenset(Capability), sample_examples=3)
LOGGED: list[tuple[str, str]] = []
_ENTRY = """
import {modules}

MODULES = [{modules}]


def build(request):
    return MODULES[request.trial].build(request)


def revise(request):
    return tabular_mlp.revise(request)
"""


def example(name: str) -> Project:
    """An example's project."""
    return read_project(ROOT / "builders" / name)


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The component: the examples, and the template of `chiron builder new`."""
    directory = tmp_path_factory.mktemp("gallery")
    for name in EXAMPLES:
        copyfile(ROOT / "builders" / name / "builder.py", directory / f"{name}.py")
    new_project(tmp_path_factory.mktemp("new") / TEMPLATE)
    copyfile(
        next(tmp_path_factory.getbasetemp().glob(f"new*/{TEMPLATE}/builder.py")), directory / f"{TEMPLATE}.py"
    )
    copyfile(Path(__file__).with_name("probe.py"), directory / f"{PROBE}.py")
    (directory / "builder.py").write_text(_ENTRY.format(modules=", ".join(MODULES)))
    capabilities = ", ".join(f'"{name}"' for name in sorted(GRANTS.granted))
    (directory / "builder.toml").write_text(f"capabilities = [{capabilities}]\nrevises = true\n")
    (directory / "manifest.json").write_text(example(EXAMPLES[0]).manifest.model_dump_json())
    return build_project(directory, cache=tmp_path_factory.getbasetemp().parent / "components")


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """Keeps the compiled component; the last run's log lines are in `LOGGED`."""
    limits = SandboxLimits(parallel_compilation=True, compile_seconds=600)
    return Sandbox(limits, log=lambda severity, text: LOGGED.append((severity, text)))


@pytest.fixture
def built(gallery: bytes, sandbox: Sandbox) -> Callable[[str, BuildRequest, CapabilityData], BuilderOutput]:
    """Runs one example by name."""

    def run(name: str, request: BuildRequest, data: CapabilityData) -> BuilderOutput:
        LOGGED.clear()
        asked = request.model_copy(update={"trial": MODULES.index(name), "trials": len(MODULES)})
        return sandbox.build(gallery, asked, GRANTS, data, seed=1)

    return run
