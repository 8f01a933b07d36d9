"""The sandbox's worker from the outside: fed one frame, read within bounds, ended in any case."""

from collections.abc import Sequence

import wasmtime

from chiron.wasm_sandbox.codec import Bounds, Frame
from chiron.wasm_sandbox.worker_process import WorkerProcess, environment, interpreter

COMMAND = interpreter("chiron.wasm_sandbox.worker")


class Worker(WorkerProcess):
    """One worker process, for one frame. Use as a context manager: on the way out it is dead."""

    def __init__(self, seconds: float, *, command: Sequence[str] = COMMAND) -> None:
        """Start it; everything together may take `seconds`.

        Raises:
            SandboxFailed: it does not start (`sandbox-start`).
        """
        super().__init__(command, environment(wasmtime))
        self.allow(seconds)

    def ask(self, frame: Frame, bounds: Bounds) -> Frame:
        """Send a frame, read the answer, which must be of a kind and size in `bounds`, and nothing after it.

        Raises:
            SandboxFailed: `sandbox-hung`, `sandbox-crashed` (a `WorkerGone`) or `sandbox-protocol`.
        """
        self.send(frame)
        answer = self.receive(bounds)
        self.expect_end()
        return answer
