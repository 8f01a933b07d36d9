"""Compiling a component and running one of its exports: what the worker process does between its frames."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wasmtime import Engine
from wasmtime.component import Component, Instance, Linker

from chiron.wasm_sandbox.binary import COMPONENT, CORE_MODULE, PREAMBLE_BYTES
from chiron.wasm_sandbox.capabilities import Host, record
from chiron.wasm_sandbox.codec import Buffer
from chiron.wasm_sandbox.commands import CompileCommand, RunCommand
from chiron.wasm_sandbox.engine import (
    Backend,
    WasmtimeError,
    compile_component,
    load_compiled,
    make_engine,
    make_store,
)
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.invocation import Answer, AnswerBounds, Refusal, call
from chiron.wasm_sandbox.world import REVISE, check_granted, examine

MAX_DETAIL = 2_000
"""Characters of what a component says about itself, that are passed on."""


@dataclass(frozen=True)
class Compiled:
    """A builder of our world, and its compiled form."""

    capabilities: tuple[str, ...]
    revises: bool
    module: bytes


@dataclass(frozen=True)
class RunResult:
    """What a builder answered; `present` is False for a `revise` that had no better idea."""

    present: bool
    graph: bytes
    recipe: bytes
    fuel: int
    """Instructions used, host calls included."""


class _StoreLimits:
    """The limits that arrived as JSON, as the engine reads them."""

    fuel: int
    memory_bytes: int
    memories: int
    table_elements: int
    tables: int
    instances: int

    def __init__(self, limits: dict[str, int]) -> None:
        self.__dict__.update(limits)


def compile_builder(command: CompileCommand, component: Buffer) -> Compiled:
    """Compile and check against our world.

    Raises:
        ComponentRefused: the reason is its code.
    """
    # The engine would take WebAssembly text as well: one parser less to attack.
    if component[:PREAMBLE_BYTES] == CORE_MODULE:
        raise failure(Code.COMPONENT_IS_CORE_MODULE)
    if component[:PREAMBLE_BYTES] != COMPONENT:
        raise failure(Code.COMPONENT_MALFORMED)
    engine = make_engine(
        Backend(command.backend),
        stack_bytes=command.stack_bytes,
        parallel=command.parallel,
        optimize=command.keep,
    )
    try:
        compiled = compile_component(engine, component)
    except WasmtimeError as error:
        raise failure(Code.COMPONENT_MALFORMED, _shown(str(error))) from None
    capabilities, revises = examine(compiled, engine)
    return Compiled(capabilities, revises, bytes(compiled.serialize()) if command.keep else b"")


class Run:
    """One call of a builder's export, from a compiled component that our own compiler made."""

    def __init__(self, command: RunCommand, module: Buffer, statistics: Buffer, sample: Buffer) -> None:
        """Load and check, and empty `module`; no code of the builder runs.

        Raises:
            CapabilityNotGranted: it imports what `command.granted` does not have.
            ComponentRefused: it is no builder of our world.
        """
        self._command = command
        self._engine = make_engine(Backend(command.backend), stack_bytes=command.limits["stack_bytes"])
        self._component: Component = load_compiled(self._engine, module)
        if isinstance(module, bytearray):
            module.clear()  # The engine has its own copy: one in an enclave's memory is enough.
        self._capabilities, revises = examine(self._component, self._engine)
        check_granted(self._capabilities, command.granted)
        self._absent = command.call == REVISE and not revises
        self.host = Host(command, statistics, sample)

    def answer(self) -> RunResult:
        """Instantiate and call. A builder that does not export `revise` has no better idea.

        Raises:
            BuilderFailed: it trapped, broke a limit, or answered an error.
            PlanRefused: its plan is larger than a plan may be.
        """
        if self._absent:
            return RunResult(False, b"", b"", 0)
        limits = _StoreLimits(self._command.limits)
        store = make_store(self._engine, limits)
        with _deadline(self._engine, self._command.run_seconds):
            with self._failures(returning=False):
                linker = Linker(self._engine)
                self.host.link(linker, self._capabilities)
                instance = linker.instantiate(store, self._component)
            with self._failures(returning=True):
                answer = self._call(instance, store)
        fuel = limits.fuel - store.get_fuel()
        if answer is None:
            return RunResult(False, b"", b"", fuel)
        if isinstance(answer, Refusal):
            raise failure(Code.BUILDER_REFUSED_REQUEST, answer.text)
        return RunResult(True, answer.graph, answer.recipe, fuel)

    def _call(self, instance: Instance, store: Any) -> Answer | Refusal | None:
        function = instance.get_func(store, self._command.call)
        if function is None:
            raise failure(Code.COMPONENT_EXPORT_MISSING, self._command.call)
        arguments: list[Any] = [record(self._command.request)]
        limits = self._command.limits
        bounds = AnswerBounds(limits["graph_bytes"], limits["recipe_bytes"], MAX_DETAIL)
        return call(function, store, arguments, bounds)

    @contextmanager
    def _failures(self, *, returning: bool) -> Iterator[None]:
        try:
            yield
        except (WasmtimeError, SandboxError) as error:
            if self.host.failure is not None:
                raise self.host.failure from None
            if isinstance(error, SandboxError):
                raise
            text = str(error)
            raise failure(classify(text, returning=returning), _shown(text)) from None


@contextmanager
def _deadline(engine: Engine, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, engine.increment_epoch)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_TRAPS = {
    "all fuel consumed by WebAssembly": Code.BUILDER_OUT_OF_FUEL,
    "interrupt": Code.BUILDER_DEADLINE,
    "call stack exhausted": Code.BUILDER_STACK_OVERFLOW,
}
_LIMITS = re.compile(r"exceeds (memory|table) limits|limit exceeded|out of memory|failed to allocate")
_HOST_CALL_FUEL = "fuel allocated for hostcalls has been exhausted"


def classify(text: str, *, returning: bool) -> Code:
    """The code of an engine error, by its last line; what comes before may hold the builder's own names.

    `returning`: a value that is too large to cross is the plan, rather than an argument.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = re.sub(r"^\d+: ", "", lines[-1]) if lines else ""
    if last.startswith("wasm trap: "):
        return _TRAPS.get(last.removeprefix("wasm trap: "), Code.BUILDER_TRAPPED)
    if _LIMITS.search(last):
        return Code.BUILDER_OUT_OF_MEMORY
    if _HOST_CALL_FUEL in last:
        alone = len(lines) == 1
        return Code.PLAN_TOO_LARGE if returning and alone else Code.BUILDER_OUT_OF_FUEL
    return Code.BUILDER_INVALID_VALUE


def _shown(text: str) -> str:
    return text[:MAX_DETAIL]
