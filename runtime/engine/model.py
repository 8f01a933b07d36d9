"""An exported model as a predictor sees it: loaded and run in the engine's process.

A query that kills the process gets no answer, and the next one finds another process: it is started at once,
as often as `RESTARTS` says.
"""

import asyncio
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.engine.frames import Count, Kind, Nothing, Opening
from chiron.runtime.engine.limits import CALL_S, PREDICTION_S, START_S, memory_of_prediction
from chiron.runtime.engine.memory import as_bytes
from chiron.runtime.engine.process import NOTHING, EngineProcess
from chiron.runtime.engine.supply import Engines
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wire.jobs import JobSpec

RESTARTS = 32
"""As long as a model is open: a query costs its asker rows, so nobody has an interest in more."""


class RemoteModel:
    """One model, and the process that has it. `end` it in any case."""

    def __init__(self, process: EngineProcess, onnx: bytes, spec: JobSpec) -> None:
        """`process` is this model's own from now on."""
        self._process = process
        self._onnx = onnx
        self._spec = spec
        self._left = RESTARTS
        self._ended = False
        self._turn = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None

    @classmethod
    async def load(cls, onnx: bytes, spec: JobSpec, engines: Engines) -> "RemoteModel | None":
        """The model in a process of its own; None where the engine does not take it."""
        try:
            model = cls(engines.process(), onnx, spec)
        except TrainingFailed:
            return None
        try:
            await model._load()
        except (TrainingFailed, SandboxError):
            model.end()
            return None
        except BaseException:
            model.end()
            raise
        return model

    async def predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Answer for rows [n, *input_shape] in the dataset's input type.

        Returns:
            Class scores [n, classes], or values [n, *target_shape].

        Raises:
            TrainingFailed, SandboxError: it does not run on these rows, or its process failed.
        """
        # To its end, even if nobody waits for it any more: only a process that failed is ended.
        predicting = asyncio.ensure_future(self._predict_in_turn(x))
        predicting.add_done_callback(_seen)
        return await asyncio.shield(predicting)

    async def _predict_in_turn(self, x: NDArray[Any]) -> NDArray[np.float32]:
        async with self._turn:
            if self._restarting is not None:
                await self._restarting
            try:
                return await self._predict(x)
            finally:
                self._restart_if_gone()

    def end(self) -> None:
        """Kill the process. Whoever waits for an answer gets none."""
        self._ended = True
        self._process.end()

    async def _predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        dataset = self._spec.dataset
        shape = (len(x), *((dataset.classes,) if dataset.classes else dataset.target_shape))
        rows = np.ascontiguousarray(x, dataset.input_dtype.value)
        size = 4 * prod(shape)
        _, content = await self._process.ask(
            Kind.PREDICT, Count(rows=len(x)), as_bytes(rows), answer=Nothing, most=size, seconds=PREDICTION_S
        )
        if len(content) != size:
            self._process.end()
            raise TrainingFailed(Reason.MODEL_INVALID)
        return np.frombuffer(content, np.float32).reshape(shape)

    def _restart_if_gone(self) -> None:
        if self._process.ended and not self._ended and self._left > 0:
            self._left -= 1
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        # One that does not start, or does not load the model again, is found out by the next query.
        with suppress(TrainingFailed, SandboxError):
            self._process = EngineProcess()
            await self._load()
        if self._ended:
            self._process.end()

    async def _load(self) -> None:
        opening = Opening(
            spec=self._spec,
            index=0,
            shared=False,
            memory_bytes=memory_of_prediction(self._spec),
            learns=False,
        )
        self._process.close_memory_file()
        await self._process.ask(Kind.OPEN, opening, answer=Nothing, seconds=START_S)
        await self._process.ask(Kind.LOAD, NOTHING, self._onnx, answer=Nothing, seconds=CALL_S)


def _seen(done: asyncio.Future[NDArray[np.float32]]) -> None:
    """Keep asyncio from telling the log of an error that nobody waits for."""
    if not done.cancelled():
        done.exception()
