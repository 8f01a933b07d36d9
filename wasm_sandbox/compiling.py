"""Compiling in a process of its own, where the compiler's time and memory are bounded and its faults end."""

from chiron.wasm_sandbox.answers import CompileReport, compile_bounds, failure_in, parse
from chiron.wasm_sandbox.codec import Buffer, Frame, Kind
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.process import Worker, WorkerGone
from chiron.wasm_sandbox.terms import CompileTerms, dump


def compile_apart(
    component: bytes, limits: SandboxLimits, backend: Backend, *, keep: bool
) -> tuple[CompileReport, Buffer]:
    """What the component asks for and exports, and, if it is to be kept, its compiled form.

    Raises:
        ComponentRefused: it is no builder of our world, or compiling it takes more than `limits`.
        SandboxFailed: the process did not do its part.
    """
    if len(component) > limits.component_bytes:
        raise failure(Code.COMPONENT_TOO_LARGE)
    terms = CompileTerms(
        backend.value, limits.stack_bytes, limits.parallel_compilation, limits.compile_memory_bytes, keep
    )
    try:
        with Worker(limits.compile_seconds) as worker:
            answer = worker.ask(Frame(Kind.COMPILE, (dump(terms), component)), compile_bounds(keep=keep))
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
