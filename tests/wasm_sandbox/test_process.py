"""The worker process: started clean; whatever it does, the sandbox gets one error and no process stays."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chiron.wasm_sandbox.codec import Frame, Kind, encode, encode_head
from chiron.wasm_sandbox.commands import CompileCommand, dump
from chiron.wasm_sandbox.errors import Code, SandboxFailed, WorkerGone
from chiron.wasm_sandbox.process import Worker
from chiron.wasm_sandbox.reports import compile_bounds
from tests.support.memory import holds
from tests.wasm_sandbox.conftest import small_builder

COMPILE = Frame(Kind.COMPILE, (dump(CompileCommand("pulley", 2**20, False, 2**30, False)), small_builder()))
BOUNDS = compile_bounds(keep=False)
PATIENCE = 20.0


def misbehaving(program: str) -> tuple[str, ...]:
    """A worker that reads its frame's head and then runs `program`."""
    return (sys.executable, "-S", "-c", f"import os, sys, time\nos.read(0, 38)\n{program}")


def writing(content: bytes) -> str:
    return f"os.write(1, {content!r})"


def test_the_worker_imports_nothing_heavy() -> None:
    """Half of a cached build would be the import of pydantic or NumPy."""
    heavy = {"numpy", "onnx", "pydantic"}
    program = f"import sys, chiron.wasm_sandbox.worker; print({heavy} & sys.modules.keys())"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("os.abort()", Code.SANDBOX_CRASHED),
        ("os.kill(os.getpid(), 9)", Code.SANDBOX_CRASHED),
        ("os._exit(0)", Code.SANDBOX_CRASHED),
        ("os._exit(1)", Code.SANDBOX_CRASHED),
        (writing(b"CHSB"), Code.SANDBOX_CRASHED),
        (writing(encode_head(Kind.FAILED, [100]) + b"too short"), Code.SANDBOX_CRASHED),
        (writing(b"x" * 64), Code.SANDBOX_PROTOCOL),
        (writing(encode_head(Kind.FAILED, [2**63])), Code.SANDBOX_PROTOCOL),
        (writing(encode_head(Kind.ANSWERED, [1, 1, 1])), Code.SANDBOX_PROTOCOL),
        (writing(encode(Frame(Kind.FAILED, (b"{}",))) + b"more"), Code.SANDBOX_PROTOCOL),
        ("sys.stdout = None; [os.write(1, b'CHSB' * 1000) for _ in iter(int, 1)]", Code.SANDBOX_PROTOCOL),
    ],
    ids=[
        "aborts", "is-killed", "ends", "fails", "half-a-head", "half-a-part", "garbage", "enormous-part",
        "another-kind", "more-than-an-answer", "endless",
    ],
)  # fmt: skip
def test_a_worker_that_misbehaves_is_one_error(program: str, code: Code) -> None:
    with pytest.raises(SandboxFailed) as failed, Worker(PATIENCE, command=misbehaving(program)) as worker:
        worker.ask(COMPILE, BOUNDS)
    assert failed.value.code == code
    assert not Path(f"/proc/{worker.pid}").exists()


@pytest.mark.parametrize(
    "program",
    ["time.sleep(600)", "os.close(1); time.sleep(600)", "os.close(0); time.sleep(600)"],
    ids=["silent", "closes-its-output", "closes-its-input"],
)
def test_a_worker_that_hangs_is_killed_at_its_deadline(program: str) -> None:
    began = time.monotonic()
    with pytest.raises(SandboxFailed) as failed, Worker(1, command=misbehaving(program)) as worker:
        worker.ask(COMPILE, BOUNDS)
    assert failed.value.code in {Code.SANDBOX_HUNG, Code.SANDBOX_CRASHED}
    assert time.monotonic() - began < PATIENCE
    assert not Path(f"/proc/{worker.pid}").exists()


def test_a_worker_that_drips_does_not_outlast_its_deadline() -> None:
    drip = "head = b'CHSB' + bytes([18, 1]) + (60000).to_bytes(8, 'little') + bytes(24)\nos.write(1, head)\n"
    drip += "while True:\n    os.write(1, b'x'); time.sleep(0.05)"
    with pytest.raises(SandboxFailed) as failed, Worker(1, command=misbehaving(drip)) as worker:
        worker.ask(COMPILE, BOUNDS)
    assert failed.value.code == Code.SANDBOX_HUNG


def test_a_worker_that_does_not_read_is_killed_at_its_deadline() -> None:
    large = Frame(Kind.COMPILE, (b"{}", bytes(8 * 2**20)))
    deaf = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    with pytest.raises(SandboxFailed) as failed, Worker(1, command=deaf) as worker:
        worker.ask(large, BOUNDS)
    assert failed.value.code == Code.SANDBOX_HUNG


def test_a_worker_that_does_not_start_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed) as failed:
        Worker(1, command=(str(tmp_path / "nothing"),))
    assert failed.value.code == Code.SANDBOX_START


def test_how_a_worker_ended_is_told() -> None:
    killed = misbehaving("os.kill(os.getpid(), 9)")
    with pytest.raises(WorkerGone) as gone, Worker(PATIENCE, command=killed) as worker:
        worker.ask(COMPILE, BOUNDS)
    assert gone.value.detail == "exit status -9"


def test_the_worker_is_spawned_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A LibOS has no fork; and a fork would carry this process's memory, keys and all."""

    def forbidden(*_arguments: Any) -> int:
        raise AssertionError("fork")

    monkeypatch.setattr(subprocess, "_fork_exec", forbidden)
    with Worker(PATIENCE) as worker:
        assert worker.ask(COMPILE, BOUNDS).kind is Kind.COMPILED


def settled(worker: Worker) -> set[str]:
    """The worker's descriptors, once it waits for its frame."""
    folder, deadline = Path(f"/proc/{worker.pid}/fd"), time.monotonic() + PATIENCE
    while True:
        found = {path.name for path in folder.iterdir()}
        if found == {"0", "1", "2"} or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def test_the_worker_inherits_no_descriptor_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIRON_SECRET", "hunter2")
    monkeypatch.setenv("LD_PRELOAD", "")
    reading, writing_end = os.pipe()
    os.set_inheritable(reading, True)
    try:
        with Worker(PATIENCE) as worker:
            assert settled(worker) == {"0", "1", "2"}
            environment = Path(f"/proc/{worker.pid}/environ").read_bytes().decode().split("\0")
            names = {entry.split("=")[0] for entry in environment if entry}
            assert names == {"MALLOC_ARENA_MAX", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONUTF8"}
            command = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
            assert b"chiron.wasm_sandbox.worker" in command
    finally:
        os.close(reading)
        os.close(writing_end)


def test_the_workers_memory_holds_no_key_of_this_process() -> None:
    key = os.urandom(32)
    with Worker(PATIENCE) as worker:
        settled(worker)
        assert holds(worker.pid, b"PYTHONHASHSEED=0")  # The search sees what is there.
        assert holds(os.getpid(), key)
        assert not holds(worker.pid, key)
