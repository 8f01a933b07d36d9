"""What a component is and asks for, without running any of its code."""

from dataclasses import dataclass
from hashlib import sha256

from chiron.wasm_sandbox.compiling import compile_apart
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wire.contract import Capability


@dataclass(frozen=True)
class ComponentInfo:
    """A builder of our world."""

    sha256: str
    capabilities: tuple[Capability, ...]
    """That it imports, sorted by name: it does not run unless all of them are granted."""
    revises: bool
    """Whether it exports `revise`."""


def inspect_component(
    component: bytes,
    limits: SandboxLimits = SandboxLimits(parallel_compilation=True),  # noqa: B008 - frozen
) -> ComponentInfo:
    """Compile in a confined process and read the types; a Python component takes some seconds.

    Raises:
        ComponentRefused: garbage, a core module, too large, a foreign import, a missing or different export.
        SandboxFailed: the process did not do its part.
    """
    report, _ = compile_apart(component, limits, Backend.PULLEY, keep=False)
    return ComponentInfo(sha256(component).hexdigest(), tuple(sorted(report.capabilities)), report.revises)
