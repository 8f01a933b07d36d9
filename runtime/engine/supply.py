"""An enclave's engines: a trainer's, one for each trial, or a predictor's; the next one started ahead."""

from chiron.runtime.engine.learner import RemoteLearner
from chiron.runtime.engine.process import EngineProcess
from chiron.runtime.training.errors import TrainingFailed
from chiron.wire.jobs import JobSpec


class Engines:
    """Starts engines' processes, and ends them. One works at a time."""

    def __init__(self) -> None:
        self._ahead: EngineProcess | None = None
        self._current: EngineProcess | None = None

    def start_ahead(self) -> None:
        """Let the next process import its libraries while something else is done."""
        if self._ahead is not None:
            return
        try:
            self._ahead = EngineProcess()
        except TrainingFailed:
            # Whoever asks for it finds out.
            self._ahead = None

    async def learner(self, spec: JobSpec, *, index: int, trial: int) -> RemoteLearner:
        """A fresh learner; the one before is ended.

        Raises:
            TrainingFailed: no process can be started.
        """
        await self._end_current()
        self._current = self.process()
        return RemoteLearner(self._current, spec, index=index, trial=trial)

    def process(self) -> EngineProcess:
        """A process, which whoever asked for it ends.

        Raises:
            TrainingFailed: none can be started.
        """
        process, self._ahead = self._ahead or EngineProcess(), None
        return process

    def end(self) -> None:
        """End all of them. It waits for nobody: how a role ends is not changed by what happens meanwhile."""
        for process in (self._current, self._ahead):
            if process is not None:
                process.end()
        self._current, self._ahead = None, None

    async def _end_current(self) -> None:
        if self._current is not None:
            await self._current.close()
            self._current = None
