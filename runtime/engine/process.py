"""The engine's process from its parent's side: asked one command at a time, within bounds and time.

Whatever it does wrong (it ends, hangs, answers garbage) is `training-failed`, and kills it.
"""

import asyncio
import os
import subprocess
import threading
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from chiron.runtime.engine.frames import Failure, Kind, Nothing, bounds, error_of
from chiron.runtime.engine.memory import anonymous_file
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.codec import Buffer, Frame
from chiron.wasm_sandbox.errors import SandboxFailed
from chiron.wasm_sandbox.worker_process import WorkerProcess, environment, interpreter
from chiron.wire.encoding import WireModel

Head = TypeVar("Head", bound=WireModel)
COMMAND = interpreter("chiron.runtime.engine.worker")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
NOTHING = Nothing()


class EngineProcess:
    """One engine's process. It is started at once; `close` it in any case."""

    def __init__(self) -> None:
        """Start it; it imports its libraries meanwhile.

        Raises:
            TrainingFailed: it does not start.
        """
        self.memory_file = anonymous_file()
        """What it has as descriptor 2 for memory that both sides see; None where there is none."""
        third = subprocess.DEVNULL if self.memory_file is None else self.memory_file
        try:
            self._worker = WorkerProcess(COMMAND, environment(np) | _ONE_THREAD, third=third)
        except SandboxFailed as error:
            self.close_memory_file()
            raise TrainingFailed(Reason.ENGINE_FAILED) from error
        self._turn = asyncio.Lock()
        self._at_its_pipes = threading.Lock()
        self.ended = False
        """Whether there is nothing to be had from it any more."""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._worker.pid

    async def ask(
        self,
        kind: Kind,
        head: WireModel,
        *content: Buffer | memoryview,
        answer: type[Head],
        most: int = 0,
        seconds: float,
    ) -> tuple[Head, Buffer]:
        """Give a command; its answer's head, and the bytes with it, at most so many.

        Raises:
            TrainingFailed, SandboxError: the command failed, or the process did.
        """
        async with self._turn:
            if self.ended:
                raise TrainingFailed(Reason.ENGINE_FAILED)
            asking = asyncio.to_thread(
                self._ask, Frame(kind, (head.model_dump_json().encode(),)), content, most, seconds
            )
            try:
                frame = await asking
                if frame.kind == Kind.FAILED:
                    raise error_of(Failure.model_validate_json(bytes(frame.parts[0])))
                return answer.model_validate_json(bytes(frame.parts[0])), frame.parts[1]
            except (SandboxFailed, ValidationError):
                # From None: it may quote what the process wrote.
                await self.close()
                raise TrainingFailed(Reason.ENGINE_FAILED) from None
            except asyncio.CancelledError:
                # The thread that waits for its answer ends with it.
                self.ended = True
                self._worker.kill()
                raise

    def _ask(
        self, frame: Frame, content: tuple[Buffer | memoryview, ...], most: int, seconds: float
    ) -> Frame:
        with self._at_its_pipes:
            self._worker.allow(seconds)
            self._worker.send(frame, *(memoryview(part) for part in content))
            return self._worker.receive(bounds(most))

    def close_memory_file(self) -> None:
        """Forget the descriptor; what was mapped stays."""
        if self.memory_file is not None:
            os.close(self.memory_file)
            self.memory_file = None

    async def close(self) -> None:
        """Kill the process, and wait until it is gone: it changes no memory any more."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """What `close` does, for whoever cannot wait elsewhere: it takes milliseconds."""
        self.ended = True
        self.close_memory_file()
        self._worker.kill()
        # Whoever still reads finds the pipe's end at once.
        with self._at_its_pipes:
            self._worker.end()
