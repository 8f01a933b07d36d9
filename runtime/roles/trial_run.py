"""The run of one trial on one trainer, which goes on whatever happens inside it.

The host must not learn from the schedule how the training goes. So what fails for a reason of the data, the
builder, the recipe or the engine makes the run idle: it reads on, takes part in every remaining exchange with
an unchanged vector, and the reason travels sealed. What the host itself caused (`EnclaveError`) is raised.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chiron.ps.client import Merged
from chiron.runtime.datasets import EncryptedDataset, Examples
from chiron.runtime.errors import ChunkRefused, EnclaveError, InputCorrupted
from chiron.runtime.roles.plan import Plan
from chiron.runtime.training.partition import Partition, due_chunks
from chiron.wire.jobs import IDLE, SUMS, JobSpec
from chiron.wire.reports import TrainingReport


class TrialLearner(Protocol):
    """What a run trains with: see `chiron.runtime.engine.learner.RemoteLearner`."""

    @property
    def steps(self) -> int: ...

    @property
    def vector(self) -> NDArray[np.float32]: ...

    async def admit(self, graph: bytes, recipe: bytes, component: bytes | None = None) -> object: ...

    async def begin(self, *, from_start: bool) -> None: ...

    async def write(self, vector: NDArray[np.float32]) -> None: ...

    async def start(self, exchange: int, exchanges: int) -> None: ...

    async def take(self, examples: Examples) -> None: ...

    async def finish(self) -> None: ...

    def sums(self) -> NDArray[np.float64]: ...

    async def report(self, exchange: int, merged_sums: NDArray[np.float64]) -> TrainingReport: ...

    async def export(self) -> bytes: ...

    async def state(self) -> bytes: ...

    async def restore(self, saved: bytes) -> None: ...

    async def close(self) -> None: ...


class Supply(Protocol):
    """Where learners come from: see `chiron.runtime.engine.supply.Engines`."""

    async def learner(self, spec: JobSpec, *, index: int, trial: int) -> TrialLearner:
        """A fresh learner."""
        ...


class TrialRun:
    """A learner, or none any more."""

    def __init__(self, spec: JobSpec, trial: int, index: int, engines: Supply) -> None:
        self._spec = spec
        self.trial = trial
        """The trial's number."""
        self._index = index
        self._engines = engines
        self._partition = Partition.of(spec, index)
        self._learner: TrialLearner | None = None
        self._vector = np.zeros(spec.exchange.parameters, np.float32)
        """The vector that training changes in place, and that is pushed."""
        self._adopted: NDArray[np.float32] | None = None
        """The vector adopted last, in the exchange client's memory: an idle run pushes it unchanged."""
        self.begun = False
        """Whether it was given a plan."""
        self.has_read = False
        """Whether it has fetched chunks already: held data is read once."""
        self.failure: str | None = "no-plan"
        """Stable code of why the run is idle. For the owner only."""
        self.report = TrainingReport(exchange=0, trial=trial)
        """The report of the latest exchange."""

    @property
    def usable(self) -> bool:
        """Whether the merged vector is a trained model."""
        return self.failure is None and not self.report.diverged

    @property
    def steps(self) -> int:
        """Optimizer steps taken so far."""
        return 0 if self._learner is None else self._learner.steps

    async def admit(self, plan: Plan, component: bytes | None = None) -> None:
        """Have a plan admitted, with the component's pretrained tensors, for `begin`.

        Raises:
            SandboxError: it is not.
            TrainingFailed: the engine failed.
        """
        learner = await self._engines.learner(self._spec, index=self._index, trial=self.trial)
        try:
            await learner.admit(plan.graph, plan.recipe_text, component)
        except BaseException:
            await learner.close()
            raise
        self._learner, self._vector = learner, learner.vector

    async def begin(self, plan: Plan, component: bytes | None = None, *, from_start: bool = True) -> None:
        """Make the learner. The leading trainer's initial values are the run's vector, `from_start`."""
        self.begun = True
        try:
            if self._learner is None:
                await self.admit(plan, component)
            assert self._learner is not None  # noqa: S101 - admitted
            # Only the leading trainer has pretrained tensors; the others get the vector that it publishes.
            await self._learner.begin(from_start=self._index == 0 and from_start)
        except Exception as error:
            await self._fail(error)
        else:
            self.failure = None

    async def adopt(self, vector: NDArray[np.float32]) -> None:
        """Go on from a vector [spec.exchange.parameters]: the published start, or a merged one.

        It must not change until the next.
        """
        self._adopted = vector
        if self._learner is None:
            self._vector[:] = vector
            return
        try:
            await self._learner.write(vector)
        except Exception as error:
            await self._fail(error)

    async def state(self) -> bytes:
        """The learner's state after an exchange, secret; empty if the run is idle."""
        if self._learner is None:
            return b""
        try:
            return await self._learner.state()
        except Exception as error:
            await self._fail(error)
            return b""

    async def restore(self, plan: Plan | None, failure: str | None, state: bytes) -> None:
        """Stand where a run stood after `adopt`, whose `failure` and `state` these are."""
        if state and plan is not None:
            await self.begin(plan, from_start=False)
            try:
                if self._learner is not None:
                    await self._learner.restore(state)
            except Exception as error:
                # Not the host's doing: we sealed the state. What an engine says of it decides nothing public.
                await self._fail(error)
        if failure is not None:
            self.failure = failure

    async def train(self, dataset: EncryptedDataset, exchange: int, exchanges: int) -> None:
        """The local steps due before this trial's exchange `exchange` of `exchanges`.

        What is read does not depend on how they go, or whether there are any: the host counts requests.

        Raises:
            InputCorrupted: the host served a chunk that is not the owner's.
            EnclaveError: the host otherwise failed us.
        """
        numbers = due_chunks(self._partition, exchange, first=not self.has_read)
        self.has_read = True
        try:
            if self._learner is not None:
                await self._learner.start(exchange, exchanges)
        except Exception as error:
            await self._fail(error)
        async for examples in self._read(dataset, numbers):
            try:
                if self._learner is not None:
                    await self._learner.take(examples)
            except Exception as error:
                await self._fail(error)
        try:
            if self._learner is not None:
                await self._learner.finish()
        except Exception as error:
            await self._fail(error)

    async def _read(self, dataset: EncryptedDataset, numbers: Sequence[int]) -> AsyncIterator[Examples]:
        """The rows of these chunks; where the owner made a malformed one, the run is idle and reads on.

        Raises:
            InputCorrupted: the host served a chunk that is not the owner's.
        """
        malformed: list[Exception] = []
        try:
            async for examples in dataset.read(numbers, malformed=malformed.append):
                if malformed:
                    await self._fail(malformed.pop())
                yield examples
            if malformed:
                await self._fail(malformed.pop())
        except ChunkRefused as error:
            raise InputCorrupted(error.code, "the host served another chunk than the owner's") from error

    def pushed(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The push to the parameter server: vector [parameters] and sums [SUMS]."""
        sums = np.zeros(SUMS, np.float64)
        if self._learner is None:
            sums[IDLE] = 1
        else:
            sums[:IDLE] = self._learner.sums()[:IDLE]
        return self._vector, sums

    async def take(self, exchange: int, merged: Merged) -> None:
        """Adopt what the exchange made of all trainers' work, and report on it."""
        await self.adopt(merged.vector)
        if merged.sums[IDLE] > 0 and self.failure is None:
            self.failure = "peer-idle"
        if self._learner is not None:
            try:
                self.report = await self._learner.report(exchange, merged.sums)
            except Exception as error:
                await self._fail(error)
        if self._learner is None:
            self.report = TrainingReport(exchange=exchange, trial=self.trial)

    async def export(self) -> bytes:
        """The inference model of the vector as it is, as ONNX bytes; empty if there is none."""
        if self._learner is None or not self.usable:
            return b""
        try:
            return await self._learner.export()
        except Exception as error:
            await self._fail(error)
            return b""

    async def close(self) -> None:
        """End the learner's process: nothing more is to be had from the run."""
        if self._learner is not None:
            await self._learner.close()

    async def _fail(self, error: Exception) -> None:
        if isinstance(error, EnclaveError):
            raise error
        if self._learner is not None:
            # It changes no shared memory any more after this.
            await self._learner.close()
        self._learner = None
        self._vector = np.zeros(self._spec.exchange.parameters, np.float32)
        if self._adopted is not None:
            self._vector[:] = self._adopted
        self.failure = getattr(error, "code", "training-failed")
        # Neither the code nor the error is logged: the host reads the log.
