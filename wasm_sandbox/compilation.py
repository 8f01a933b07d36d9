"""A component compiled in a process of its own: for what it is and asks for, or for its compiled form.

There the compiler's time and memory are bounded and its faults end. None of the component's code runs.
"""

from dataclasses import dataclass
from hashlib import sha256

from chiron.wasm_sandbox.codec import Buffer, Frame, Kind
from chiron.wasm_sandbox.commands import CompileCommand, dump
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import Code, SandboxError, WorkerGone, failure
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.process import Worker
from chiron.wasm_sandbox.reports import CompileReport, compile_bounds, failure_in, parse
from chiron.wire.contract import Capability


def compile_apart(
    component: bytes, limits: SandboxLimits, backend: Backend, *, keep: bool
) -> tuple[CompileReport, Buffer]:
    """Compile a component: a report of its imports and exports and, with `keep`, its compiled form.

    Raises:
        ComponentRefused: it is no builder of our world, or compiling it takes more than `limits`.
        SandboxFailed: the process did not do its part.
    """
    if len(component) > limits.component_bytes:
        raise failure(Code.COMPONENT_TOO_LARGE)
    command = CompileCommand(
        backend.value, limits.stack_bytes, limits.parallel_compilation, limits.compile_memory_bytes, keep
    )
    try:
        with Worker(limits.compile_seconds) as worker:
            answer = worker.ask(Frame(Kind.COMPILE, (dump(command), component)), compile_bounds(keep=keep))
    except WorkerGone as gone:
        # Out of address space, it ends by an abort, a MemoryError, or a stack that cannot grow.
        raise failure(Code.COMPONENT_COMPILE_LIMIT, gone.detail) from None
    except SandboxError as error:
        if error.code != Code.SANDBOX_HUNG:
            raise
        raise failure(Code.COMPONENT_COMPILE_LIMIT) from None
    failed = failure_in(answer)
    if failed is not None:
        raise failed.error()
    return parse(CompileReport, answer.parts[0]), answer.parts[1]


@dataclass(frozen=True)
class ComponentInfo:
    """What a builder of our world is and asks for."""

    sha256: str
    capabilities: tuple[Capability, ...]
    """The capabilities that it imports, sorted by name: it does not run unless all of them are granted."""
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
