"""Watches the memory of this process's children from outside: a confined worker cannot tell it itself."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from time import sleep
from types import TracebackType

from chiron.wasm_sandbox.process import Worker

_SECONDS = 0.004


class WorkerMemory:
    """Bytes: the largest of every worker that ran meanwhile, and an idle worker's address space."""

    def __init__(self) -> None:
        self.resident = 0
        self.virtual = 0
        self.idle = _idle()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "WorkerMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        # Both are high-water marks: the last look before a worker's end has them.
        children = Path(f"/proc/self/task/{threading.main_thread().native_id}/children")
        while not self._done.wait(_SECONDS):
            with suppress(OSError):
                for child in children.read_text().split():
                    marks = _marks(int(child))
                    self.resident = max(self.resident, marks.get("VmHWM", 0))
                    self.virtual = max(self.virtual, marks.get("VmPeak", 0))


def _marks(process: int) -> dict[str, int]:
    with suppress(OSError, ValueError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
    return {}


def _idle() -> int:
    """A worker that has imported what it needs and waits for its frame."""
    with Worker(60) as worker:
        size, before = 0, -1
        while size != before or size == 0 or len(os.listdir(f"/proc/{worker.pid}/fd")) > 3:  # noqa: PTH208
            before, size = size, _marks(worker.pid).get("VmSize", 0)
            sleep(0.05)
        return size
