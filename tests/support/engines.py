"""Engines' processes that are killed, stopped, or taken over, when they are given a certain command."""

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from chiron.runtime.engine import process
from chiron.runtime.engine.frames import Kind
from chiron.runtime.engine.process import EngineProcess

_TAKEN_OVER = """
import os, sys
from chiron.runtime.engine import worker
from chiron.runtime.engine.frames import Kind

serve_frame = worker.read_frame
def read_frame(read, bounds):
    frame = serve_frame(read, bounds)
    if frame.kind == Kind[{stage!r}]:
        os.write(3, {garbage!r})
    return frame
worker.read_frame = read_frame
worker.main()
"""


class Way(StrEnum):
    """What happens to a process."""

    KILLED = "killed"
    STOPPED = "stopped"
    GARBAGE = "garbage"
    """It writes what is no frame, where its answer is due."""


class Fault:
    """Processes that meet a fault at a command, from when `strike` is entered."""

    def __init__(self, way: Way, stage: Kind, *, leading: bool | None = None) -> None:
        """The first process that is started meets it, or the (not) leading trainer's."""
        self._way, self._stage, self._leading = way, stage, leading
        self._leaders: list[EngineProcess] = []
        self._started: list[EngineProcess] = []
        self.struck = 0
        """How many processes met it."""

    def strike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Do it, until the test ends."""
        begin, ask = EngineProcess.__init__, EngineProcess.ask

        def started(engine: EngineProcess) -> None:
            if self._way is Way.GARBAGE and not self._started:
                program = _TAKEN_OVER.format(stage=self._stage.name, garbage=b"CHSB" + bytes(60))
                command = (sys.executable, "-S", "-s", "-B", "-c", program)
                with monkeypatch.context() as context:
                    context.setattr(process, "COMMAND", command)
                    begin(engine)
            else:
                begin(engine)
            self._started.append(engine)

        async def asked(engine: EngineProcess, kind: Kind, *content: Any, **terms: Any) -> Any:
            if kind is Kind.ADMIT and content[0].with_component:
                self._leaders.append(engine)
            if kind is self._stage and self._meets(engine) and not engine.ended:
                self.struck += 1
                if self._way is Way.KILLED:
                    os.kill(engine.pid, signal.SIGKILL)
                elif self._way is Way.STOPPED:
                    os.kill(engine.pid, signal.SIGSTOP)
                    terms["seconds"] = 0.5
            return await ask(engine, kind, *content, **terms)

        monkeypatch.setattr(EngineProcess, "__init__", started)
        monkeypatch.setattr(EngineProcess, "ask", asked)

    def _meets(self, engine: EngineProcess) -> bool:
        if self._leading is None:
            return engine is self._started[0]
        return (engine in self._leaders) == self._leading

    @property
    def left(self) -> list[int]:
        """Processes that were started and are still there."""
        return [engine.pid for engine in self._started if Path(f"/proc/{engine.pid}").exists()]
