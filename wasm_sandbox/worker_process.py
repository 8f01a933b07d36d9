"""A worker process from the outside: started clean, spoken to in bounded frames, ended in any case.

`posix_spawn` (through subprocess, whose conditions for it are kept: no fork in a LibOS) of a fresh
interpreter: nothing of this process's memory is in it. Its environment is written out below; its only
descriptors are the two pipes and a third, a null device unless its starter says otherwise (it closes whatever
else a library left inheritable).
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import chiron
from chiron.wasm_sandbox.codec import Bounds, Buffer, Frame, encode_head, read_frame
from chiron.wasm_sandbox.errors import SENTENCES, Code, FrameMalformed, WorkerGone, failure

_PART = 1 << 20
_END_SECONDS = 1.0
"""How long a worker that has closed its output may take to end."""


def interpreter(module: str) -> tuple[str, ...]:
    """The command that runs a module of ours.

    -S and -s: no site packages' start-up code; -P: not the working directory; -B: write nothing.
    """
    return (sys.executable, "-S", "-s", "-P", "-B", "-m", module)


def environment(*beside: ModuleType) -> dict[str, str]:
    """All of a worker's environment: it finds our package, and those that these modules lie among."""
    folders = [Path(module.__path__[0]).parent for module in (chiron, *beside)]
    return {
        # One heap for all threads: every further one would reserve 64 MiB of an enclave's memory.
        "MALLOC_ARENA_MAX": "1",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(str(folder) for folder in folders)),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
    }


class WorkerProcess:
    """One worker process. Use as a context manager, or call `end`: then it is dead, and reaped."""

    def __init__(
        self, command: Sequence[str], variables: Mapping[str, str], *, third: int = subprocess.DEVNULL
    ) -> None:
        """Start it; `third` is what it has as descriptor 2.

        Raises:
            SandboxFailed: it does not start (`sandbox-start`).
        """
        self._deadline = 0.0
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=third,
                env=variables,
                close_fds=False,
                bufsize=0,
            )
        except OSError as error:
            raise failure(Code.SANDBOX_START, str(error)) from None
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        assert self._process.stdout is not None  # noqa: S101
        self._into, self._out_of = self._process.stdin.fileno(), self._process.stdout.fileno()
        for descriptor in (self._into, self._out_of):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PART)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def allow(self, seconds: float) -> None:
        """From now on, everything together may take so long."""
        self._deadline = time.monotonic() + seconds

    def send(self, frame: Frame, *large: memoryview) -> None:
        """Write a frame, whose last parts may be views of larger memory.

        Raises:
            SandboxFailed: `sandbox-hung`. One that stops reading is found out when its answer is read.
        """
        parts = (*frame.parts, *large)
        self._send((encode_head(frame.kind, [len(part) for part in parts]), *parts))

    def receive(self, bounds: Bounds) -> Frame:
        """Read an answer, which must be of a kind and size in `bounds`.

        Raises:
            SandboxFailed: `sandbox-hung`, `sandbox-crashed` (a `WorkerGone`) or `sandbox-protocol`.
        """
        try:
            return read_frame(self._read_exactly, bounds)
        except FrameMalformed as error:
            raise failure(Code.SANDBOX_PROTOCOL, str(error)) from None

    def expect_end(self) -> None:
        """Hold the worker to having said its last.

        Raises:
            SandboxFailed: `sandbox-protocol`, `sandbox-hung`.
        """
        if self._take(1):
            raise failure(Code.SANDBOX_PROTOCOL, "something follows the answer")

    def kill(self) -> None:
        """End it at once. Whoever waits for its answer in another thread gets `sandbox-crashed`."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill it if it still runs, and wait until it is gone."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.kill()
        self._process.wait()

    def _send(self, parts: Iterable[Buffer | memoryview]) -> None:
        with contextlib.suppress(BrokenPipeError):
            for part in parts:
                view = memoryview(part)
                while view:
                    self._wait(self._into, select.POLLOUT)
                    view = view[os.write(self._into, view[:_PART]) :]

    def _read_exactly(self, count: int) -> bytearray:
        content = bytearray()
        while len(content) < count:
            part = self._take(min(count - len(content), _PART))
            if not part:
                raise self._gone()
            content += part
        return content

    def _take(self, count: int) -> bytes:
        self._wait(self._out_of, select.POLLIN)
        return os.read(self._out_of, count)

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise failure(Code.SANDBOX_HUNG)

    def _gone(self) -> WorkerGone:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        status = self._process.poll() or 0
        return WorkerGone(Code.SANDBOX_CRASHED, SENTENCES[Code.SANDBOX_CRASHED], f"exit status {status}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
