"""A trial's learner as its parent sees it: `chiron.runtime.training.learner`'s, in the engine's process.

Every call may raise `TrainingFailed` or `SandboxError`, for whatever reason. After that nothing is to be had
from it any more.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from chiron.runtime.datasets import Examples
from chiron.runtime.engine.frames import (
    Admitted,
    Beginning,
    Count,
    Exchange,
    Kind,
    Nothing,
    Opening,
    StrictForms,
    StrictFormSaid,
    Trained,
    Trial,
)
from chiron.runtime.engine.limits import (
    ADMISSION_S,
    CALL_S,
    GRADIENT_S,
    START_S,
    STEPS_S,
    memory_of_training,
)
from chiron.runtime.engine.memory import LearnersMemory, as_bytes
from chiron.runtime.engine.process import NOTHING, EngineProcess
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.codec import Buffer
from chiron.wire import objects
from chiron.wire.encoding import WireModel
from chiron.wire.jobs import SUMS, JobSpec
from chiron.wire.reports import TrainingReport

Head = TypeVar("Head", bound=WireModel)
_FORMS_BYTES = 8 * 2**20
"""Of all that is said of strict forms."""


class RemoteLearner:
    """One trainer's learner of one trial. Its parent decides how much is read, and when."""

    def __init__(self, process: EngineProcess, spec: JobSpec, *, index: int, trial: int) -> None:
        """`process` is this learner's own from now on."""
        self._process = process
        self._spec, self._index, self._trial = spec, index, trial
        self._memory = LearnersMemory(spec, process.memory_file, sealing=True)
        process.close_memory_file()
        self._opened = False
        self.steps = 0
        """Optimizer steps taken so far, as the process says."""
        self.learning_rate = 0.0
        """The rate of the latest step."""
        self._sums = np.zeros(SUMS, np.float64)

    @property
    def vector(self) -> NDArray[np.float32]:
        """The current vector [parameters], which the process may change at any time."""
        return self._memory.vector

    def sums(self) -> NDArray[np.float64]:
        """Measurements since the exchange before, [SUMS]."""
        return self._sums.copy()

    async def admit(self, graph: bytes, recipe: bytes, component: bytes | None = None) -> Admitted:
        """Check a plan against the job, with the component's pretrained tensors where there is one.

        Raises:
            SandboxError: it is not admitted.
        """
        head = Trial(trial=self._trial, with_component=component is not None)
        await self._open()
        admitted, _ = await self._process.ask(
            Kind.ADMIT, head, graph, recipe, component or b"", answer=Admitted, seconds=ADMISSION_S
        )
        return admitted

    async def strict_forms(
        self, graph: bytes, recipe: bytes, component: bytes | None = None
    ) -> tuple[StrictFormSaid, ...]:
        """The nodes of a plan that `oblivious: strict` would put in another form. For a rehearsal only.

        Raises:
            SandboxError, TrainingFailed: it would not be admitted, or has no such form.
        """
        head = Trial(trial=self._trial, with_component=component is not None)
        content = (graph, recipe, component or b"")
        said = await self._ask(Kind.STRICT, head, *content, most=_FORMS_BYTES, seconds=GRADIENT_S)
        try:
            return StrictForms.model_validate_json(bytes(said)).forms
        except ValidationError:
            raise TrainingFailed(Reason.ENGINE_FAILED) from None

    async def begin(self, *, from_start: bool) -> None:
        """Make the learner of the plan, and with `from_start` the initial values, which become the vector."""
        said = await self._ask(
            Kind.BEGIN, Beginning(from_start=from_start), most=self._vector_bytes, seconds=GRADIENT_S
        )
        self._take_vector(said)

    async def write(self, vector: NDArray[np.float32]) -> None:
        """Go on from this vector [parameters]."""
        content: tuple[memoryview, ...] = (memoryview(b""),)
        if self._memory.shared:
            self._memory.adopted[:] = vector
        else:
            content = (as_bytes(np.ascontiguousarray(vector)),)
        self._take_vector(await self._ask(Kind.ADOPT, NOTHING, *content, most=self._vector_bytes))

    async def start(self, exchange: int, exchanges: int) -> None:
        """Begin the steps before an exchange; `take` all rows that are due, then `finish`."""
        await self._ask(Kind.TRAIN, Exchange(number=exchange, of=exchanges), seconds=STEPS_S)

    async def take(self, examples: Examples) -> None:
        """Hand over the next chunk's rows."""
        head, form = Count(rows=len(examples.x)), self._memory.rows_form
        form.write(self._memory.rows, examples)
        content = memoryview(b"") if self._memory.shared else self._memory.rows
        await self._ask(Kind.ROWS, head, content, seconds=STEPS_S)

    async def finish(self) -> None:
        """End the steps: vector, sums and counts are current."""
        size = SUMS * self._sums.itemsize
        trained, content = await self._process.ask(
            Kind.FINISH, NOTHING, answer=Trained, most=size + self._vector_bytes, seconds=STEPS_S
        )
        if len(content) != size + self._vector_bytes:
            raise TrainingFailed(Reason.ENGINE_FAILED)
        self._sums = np.frombuffer(content, np.float64, SUMS).copy()
        self._take_vector(memoryview(content)[size:])
        self.steps, self.learning_rate = trained.steps, trained.learning_rate

    async def report(self, exchange: int, merged_sums: NDArray[np.float64]) -> TrainingReport:
        """Report what the sums of all trainers say. `exchange` counts over the whole job."""
        head = Exchange(number=exchange)
        content = as_bytes(np.ascontiguousarray(merged_sums))
        report, _ = await self._process.ask(Kind.REPORT, head, content, answer=TrainingReport, seconds=CALL_S)
        return report.model_copy(update={"exchange": exchange, "trial": self._trial})

    async def export(self) -> bytes:
        """The inference model of the current vector as ONNX bytes."""
        # One byte more than is stored: a model that is too large is found out where it is sealed.
        most = objects.model(self._spec).part_bytes[0] + 1
        return bytes(await self._ask(Kind.EXPORT, NOTHING, most=most))

    async def state(self) -> bytes:
        """All that training goes on from after an exchange. Secret."""
        most = objects.trainer_checkpoint(self._spec, self._index).part_bytes[0]
        return bytes(await self._ask(Kind.STATE, NOTHING, most=most))

    async def restore(self, saved: Buffer) -> None:
        """Go on from `state()` of a learner of the same plan, spec, index and trial."""
        await self._ask(Kind.RESTORE, NOTHING, saved)

    async def close(self) -> None:
        """End the process; it changes the vector no more."""
        await self._process.close()

    @property
    def _vector_bytes(self) -> int:
        """Bytes of the vector in answers."""
        return 0 if self._memory.shared else self._memory.vector.nbytes

    def _take_vector(self, content: Buffer | memoryview) -> None:
        if self._memory.shared:
            return
        if len(content) != self._vector_bytes:
            raise TrainingFailed(Reason.ENGINE_FAILED)
        self._memory.vector[:] = np.frombuffer(content, np.float32)

    async def _ask(
        self,
        kind: Kind,
        head: WireModel,
        *content: Buffer | memoryview,
        most: int = 0,
        seconds: float = CALL_S,
    ) -> Buffer:
        await self._open()
        _, found = await self._process.ask(kind, head, *content, answer=Nothing, most=most, seconds=seconds)
        return found

    async def _open(self) -> None:
        """Tell the process its job, once it is up."""
        if self._opened:
            return
        self._opened = True
        opening = Opening(
            spec=self._spec,
            index=self._index,
            shared=self._memory.shared,
            memory_bytes=memory_of_training(self._spec, self._index),
        )
        await self._process.ask(Kind.OPEN, opening, answer=Nothing, seconds=START_S)
