"""The run of one trial on one trainer, which goes on whatever happens inside it.

The host must not learn from the schedule how the training goes. So what fails for a reason of the data, the
builder or the recipe makes the run idle: it takes part in every remaining exchange with an unchanged
vector, and the reason travels sealed. What the host itself caused (`EnclaveError`) is raised.
"""

import asyncio

import numpy as np
from numpy.typing import NDArray

from chiron.ps.client import Merged
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.errors import ChunkRefused, EnclaveError, InputCorrupted
from chiron.runtime.roles.plan import AdmittedPlan
from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.learner import Learner
from chiron.runtime.training.partition import read_unused
from chiron.wire.jobs import IDLE, SUMS, JobSpec
from chiron.wire.reports import TrainingReport


class TrialRun:
    """A learner, or none any more."""

    def __init__(self, spec: JobSpec, trial: int, index: int) -> None:
        self._spec = spec
        self.trial = trial
        """The trial's number."""
        self._index = index
        self._learner: Learner | None = None
        self._vector = np.zeros(spec.exchange.parameters, np.float32)
        """The vector that training changes in place, and that is pushed. Its padding stays zero."""
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

    async def begin(self, plan: AdmittedPlan, *, from_start: bool = True) -> None:
        """Make the learner. The leading trainer's initial values are the run's vector, `from_start`."""
        self.begun = True
        try:
            learner = await asyncio.to_thread(self._new_learner, plan)
            if self._index == 0 and from_start:
                # Only it has the pretrained tensors; the others get the vector that it publishes.
                await asyncio.to_thread(learner.initial)
        except Exception as error:
            self._fail(error)
        else:
            self._learner, self.failure = learner, None

    async def adopt(self, vector: NDArray[np.float32]) -> None:
        """Go on from a vector [spec.exchange.parameters]: the published start, or a merged one.

        It must not change until the next.
        """
        self._adopted = vector
        if self._learner is None:
            self._vector[:] = vector
            return
        try:
            await asyncio.to_thread(self._learner.write, vector)
        except Exception as error:
            self._fail(error)

    def state_into(self, buffer: memoryview) -> int:
        """Write the learner's state after an exchange, secret, to `buffer`; its length, 0 if it is idle."""
        return 0 if self._learner is None else self._learner.state_into(buffer)

    async def restore(self, plan: AdmittedPlan | None, failure: str | None, state: bytes) -> None:
        """Stand where a run stood after `adopt`, whose `failure` and `state` these are.

        Raises:
            InputCorrupted: it is not the state of a run of this plan.
        """
        if state and plan is not None:
            await self.begin(plan, from_start=False)
            try:
                if self._learner is not None:
                    await asyncio.to_thread(self._learner.restore, state)
            except TrainingFailed as error:
                raise InputCorrupted("checkpoint-invalid", "the checkpoint is of another plan") from error
        self.failure = failure

    async def train(self, dataset: EncryptedDataset, exchange: int, exchanges: int) -> None:
        """The local steps due before this trial's exchange `exchange` of `exchanges`.

        Raises:
            InputCorrupted: the host served a chunk that is not the owner's.
            EnclaveError: the host otherwise failed us.
        """
        first, self.has_read = not self.has_read, True
        try:
            if self._learner is None:
                # The host counts requests for chunks: an idle trainer makes as many as any other.
                await read_unused(dataset, self._spec, self._index, exchange, first=first)
                return
            await self._learner.train(dataset, exchange, exchanges)
        except Exception as error:
            self._fail(error)

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
        if self._learner is None:
            self.report = TrainingReport(exchange=exchange, trial=self.trial)
            return
        try:
            self.report = self._learner.report(exchange, merged.sums)
        except Exception as error:
            self._fail(error)

    def export(self) -> bytes:
        """The inference model of the vector as it is, as ONNX bytes; empty if there is none."""
        if self._learner is None or not self.usable:
            return b""
        try:
            return self._learner.export()
        except Exception as error:
            self._fail(error)
            return b""

    def _new_learner(self, plan: AdmittedPlan) -> Learner:
        learner = Learner(
            plan.graph, plan.recipe, self._spec, index=self._index, trial=self.trial, memory=self._vector
        )
        self._vector[learner.elements :] = 0
        return learner

    def _fail(self, error: Exception) -> None:
        if isinstance(error, ChunkRefused):
            raise InputCorrupted(error.code, "the host served another chunk than the owner's") from error
        if isinstance(error, EnclaveError):
            raise error
        self._learner = None
        self._vector[:] = 0 if self._adopted is None else self._adopted
        self.failure = getattr(error, "code", "training-failed")
        # Neither the code nor the error is logged: the host reads the log.
