"""The sandbox's worker process: `python -m chiron.wasm_sandbox.worker`, one frame in, one frame out, the end.

It is started by `chiron.wasm_sandbox.process` with an environment of its own and never sees a key. Its order:
1. close every descriptor but the two pipes, 2. read the frame, 3. give up what computing does not need
(`chiron.wasm_sandbox.confinement`), and only then 4. let the compiler or the engine look at what is hostile.
No pydantic and no NumPy are imported here: they would take longer than the builder.
"""

import json
import os
from dataclasses import asdict
from typing import Any

from chiron.wasm_sandbox.codec import Bounds, Frame, Kind, read_frame
from chiron.wasm_sandbox.commands import load_compile, load_run
from chiron.wasm_sandbox.confinement import Confinement, close_others, confine
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.execution import Run, compile_builder
from chiron.wasm_sandbox.worker_pipes import read_exactly, write_frame

_MIB = 1 << 20
_HEADROOM_BYTES = 192 * _MIB
"""Address space for the interpreter, the engine and the values that cross."""
_ANY = 1 << 34
_BOUNDS: Bounds = {Kind.COMPILE: (_ANY, _ANY), Kind.RUN: (_ANY, _ANY, _ANY, _ANY)}
"""Our own sandbox is at the other end: it has checked what it sends."""


def main() -> None:
    """Answer one frame."""
    close_others()
    frame = read_frame(read_exactly, _BOUNDS)
    write_frame(_compile(frame) if frame.kind is Kind.COMPILE else _run(frame))


def _compile(frame: Frame) -> Frame:
    command = load_compile(frame.parts[0])
    confinement = confine(memory_bytes=command.memory_bytes, executable_memory=_executable(command.backend))
    try:
        compiled = compile_builder(command, frame.parts[1])
    except SandboxError as error:
        return _failed(error, confinement)
    report = {
        "capabilities": compiled.capabilities,
        "revises": compiled.revises,
        "confinement": asdict(confinement),
    }
    return Frame(Kind.COMPILED, (_json(report), compiled.module))


def _run(frame: Frame) -> Frame:
    part, module, statistics, sample = frame.parts
    command = load_run(part)
    memory = len(module) + command.limits["memory_bytes"] * command.limits["memories"] + _HEADROOM_BYTES
    confinement = confine(memory_bytes=memory, executable_memory=_executable(command.backend))
    run: Run | None = None
    try:
        run = Run(command, module, statistics, sample)
        result = run.answer()
    except SandboxError as error:
        return _failed(error, confinement, run)
    report = {
        "present": result.present,
        "fuel": result.fuel,
        **_logged(run),
        "confinement": asdict(confinement),
    }
    return Frame(Kind.ANSWERED, (_json(report), result.graph, result.recipe))


def _failed(error: SandboxError, confinement: Confinement, run: Run | None = None) -> Frame:
    failure = {"code": error.code, "detail": error.detail, **_logged(run), "confinement": asdict(confinement)}
    return Frame(Kind.FAILED, (_json(failure),))


def _logged(run: Run | None) -> dict[str, Any]:
    return (
        {"log_lines": 0, "log": []} if run is None else {"log_lines": run.host.log_lines, "log": run.host.log}
    )


def _executable(backend: str) -> bool:
    return Backend(backend) is Backend.CRANELIFT


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


if __name__ == "__main__":
    main()
    # Nothing is left to tidy, and the interpreter's own end would make system calls that are gone.
    os._exit(0)
