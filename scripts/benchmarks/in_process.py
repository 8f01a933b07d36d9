"""A learner in this process, as a run takes it: to measure, and to test, what the process apart adds."""

import asyncio
import queue
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import Examples
from chiron.runtime.training.learner import Learner
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import read_assets
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wire.jobs import JobSpec
from chiron.wire.reports import TrainingReport


class LocalLearner:
    """`chiron.runtime.roles.trial_run.TrialLearner`, without a process of its own."""

    def __init__(
        self, spec: JobSpec, index: int, trial: int, given: tuple[AdmittedGraph, Recipe] | None = None
    ) -> None:
        """Train what is `given`; else what a plan says."""
        self._given = given
        self._spec, self._index, self._trial = spec, index, trial
        self.vector = np.zeros(spec.exchange.parameters, np.float32)
        self._waiting: queue.Queue[Examples | None] = queue.Queue(maxsize=1)
        self._training: asyncio.Future[None] | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps taken so far."""
        return self._learner.steps

    async def admit(self, graph: bytes, recipe: bytes, component: bytes | None = None) -> None:
        """Check a plan."""
        if self._given is not None:
            self._plan = self._given
            return
        request, assets = self._spec.build_request(self._trial), component and read_assets(component)
        self._plan = admit(graph, request, self._spec.envelope, assets=assets or None), parse_recipe(recipe)

    async def begin(self, *, from_start: bool) -> None:
        """Make the learner."""
        graph, recipe = self._plan
        self._learner = Learner(
            graph, recipe, self._spec, index=self._index, trial=self._trial, memory=self.vector
        )
        if from_start:
            self._learner.initial()

    async def write(self, vector: NDArray[np.float32]) -> None:
        """Go on from this vector."""
        self._learner.write(vector)

    async def start(self, exchange: int, exchanges: int) -> None:
        """Begin the steps before an exchange."""
        self._training = asyncio.ensure_future(
            asyncio.to_thread(self._learner.train, self._rows(), exchange, exchanges)
        )

    def _rows(self) -> Iterator[Examples]:
        while (examples := self._waiting.get()) is not None:
            yield examples

    async def take(self, examples: Examples) -> None:
        """Hand over a chunk's rows."""
        while True:
            try:
                return self._waiting.put_nowait(examples)
            except queue.Full:
                await asyncio.sleep(0.001)
                if self._training is not None and self._training.done():
                    await self._training

    async def finish(self) -> None:
        """End the steps."""
        if self._training is not None:
            await self._training

    def sums(self) -> NDArray[np.float64]:
        """Measurements since the exchange before."""
        return self._learner.sums()

    async def report(self, exchange: int, merged_sums: NDArray[np.float64]) -> TrainingReport:
        """What the sums of all trainers say."""
        return self._learner.report(exchange, merged_sums)

    async def export(self) -> bytes:
        """The inference model."""
        return self._learner.export()

    async def state(self) -> bytes:
        """What training goes on from."""
        return self._learner.state()

    async def restore(self, saved: bytes) -> None:
        """Go on from `state()`."""
        self._learner.restore(saved)

    async def close(self) -> None:
        """Nothing is to be ended."""


class LocalEngines:
    """Gives runs learners of this process, which train what is `given`; else what a plan says."""

    def __init__(self, given: tuple[AdmittedGraph, Recipe] | None = None) -> None:
        self._given = given

    async def learner(self, spec: JobSpec, *, index: int, trial: int) -> LocalLearner:
        """A fresh learner."""
        return LocalLearner(spec, index, trial, self._given)
