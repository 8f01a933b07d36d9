"""The engine's process: `python -m chiron.runtime.engine.worker`. One command at a time, one answer each.

It is started by `chiron.runtime.engine.process` with an environment of its own. Its order: 1. import all that
it will need, 2. close every descriptor but its channel, and let 1 and 2, where native code writes, lead
nowhere, 3. read what job it is for, 4. give up what computing does not need
(`chiron.wasm_sandbox.confinement`), and only then 5. look at what is hostile.

It never decides how much is read: rows are handed to it, as many as the public schedule says.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel

from chiron.runtime.datasets.chunks import Examples
from chiron.runtime.engine.frames import (
    Admitted,
    Beginning,
    Count,
    Exchange,
    Failure,
    Kind,
    Nothing,
    Opening,
    StrictForms,
    StrictFormSaid,
    Trained,
    Trial,
)
from chiron.runtime.engine.memory import LearnersMemory, as_bytes
from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.runtime.training.forms import in_form
from chiron.runtime.training.learner import Learner
from chiron.runtime.training.sessions import ExportedModel
from chiron.runtime.training.strict_cost import strict_forms
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import read_assets
from chiron.wasm_sandbox.codec import Bounds, Frame, read_frame
from chiron.wasm_sandbox.confinement import close_others, confine
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wasm_sandbox.recipe_fit import check_recipe
from chiron.wasm_sandbox.worker_pipes import OUTPUT, read_exactly, write_frame
from chiron.wire.contract import Oblivious

_MEMORY = 2
_ANY = 1 << 34
_ALONE = (Kind.OPEN, Kind.BEGIN, Kind.TRAIN, Kind.FINISH, Kind.EXPORT, Kind.STATE)
_WITH_BYTES = (Kind.ADOPT, Kind.ROWS, Kind.REPORT, Kind.RESTORE, Kind.LOAD, Kind.PREDICT)
_COMMANDS: Bounds = {
    **dict.fromkeys(_ALONE, (_ANY,)),
    **dict.fromkeys(_WITH_BYTES, (_ANY, _ANY)),
    **dict.fromkeys((Kind.ADMIT, Kind.STRICT), (_ANY, _ANY, _ANY, _ANY)),
}
"""Our own parent is at the other end: it has checked what it sends."""
Done = tuple[BaseModel, tuple[memoryview, ...]]
_NOTHING: Done = (Nothing(), ())


@dataclass
class Engine:
    """What the process holds, and how it does each command."""

    opening: Opening
    arrays: LearnersMemory | None
    channel: int
    graph: AdmittedGraph | None = None
    recipe: Recipe | None = None
    trial: int = 0
    learner: Learner | None = None
    model: ExportedModel | None = None
    _commands: dict[Kind, Callable[[Frame], Done]] = field(init=False)

    def __post_init__(self) -> None:
        self._commands = {
            Kind.ADMIT: self._admit,
            Kind.BEGIN: self._begin,
            Kind.ADOPT: self._adopt,
            Kind.TRAIN: self._train,
            Kind.REPORT: self._report,
            Kind.EXPORT: self._export,
            Kind.STATE: self._state,
            Kind.RESTORE: self._restore,
            Kind.LOAD: self._load,
            Kind.PREDICT: self._predict,
            Kind.STRICT: self._strict,
        }

    def serve(self) -> None:
        """Do one command after the other, until the parent goes away."""
        while True:
            frame = read_frame(read_exactly, _COMMANDS)
            try:
                head, content = self._commands[Kind(frame.kind)](frame)
            except (TrainingFailed, SandboxError) as error:
                self._fail(error.code, getattr(error, "detail", ""))
            except Exception:
                self._fail(Reason.ENGINE_FAILED)
            else:
                answer(self.channel, head, *content)

    def _fail(self, code: str, detail: str = "") -> None:
        said = Failure(code=code, detail=detail[:400]).model_dump_json().encode()
        write_frame(Frame(Kind.FAILED, (said,)), output=self.channel)

    def _admit(self, frame: Frame) -> Done:
        self.trial = _head(Trial, frame).trial
        self.graph, self.recipe = admitted, _ = self._checked(frame, self.opening.spec.oblivious)
        return Admitted(
            parameters=admitted.elements, activation_bytes=admitted.activation_bytes_per_example
        ), ()

    def _strict(self, frame: Frame) -> Done:
        graph, recipe = self._checked(frame, Oblivious.STRICT)
        forms = strict_forms(graph)
        request = self.opening.spec.build_request(_head(Trial, frame).trial)
        # Gradients have addresses of their own.
        training_model(in_form(graph, Oblivious.STRICT), recipe, request, oblivious=Oblivious.STRICT)
        said = StrictForms(forms=tuple(StrictFormSaid(**asdict(form)) for form in forms))
        return Nothing(), (memoryview(said.model_dump_json().encode()),)

    def _checked(self, frame: Frame, oblivious: Oblivious) -> tuple[AdmittedGraph, Recipe]:
        """The plan in a frame, if it may run in this job."""
        said, (graph, recipe, component) = _head(Trial, frame), map(bytes, frame.parts[1:])
        request, parsed = self.opening.spec.build_request(said.trial), parse_recipe(recipe)
        check_recipe(parsed, request, oblivious)
        assets = read_assets(component) if said.with_component else None
        envelope = self.opening.spec.envelope
        return admit(graph, request, envelope, assets=assets, oblivious=oblivious), parsed

    def _begin(self, frame: Frame) -> Done:
        if self.graph is None or self.recipe is None:
            raise TrainingFailed(Reason.ENGINE_FAILED)
        opening, vector = self.opening, self.memory.vector
        learner = Learner(
            self.graph, self.recipe, opening.spec, index=opening.index, trial=self.trial, memory=vector
        )
        vector[learner.elements :] = 0
        if _head(Beginning, frame).from_start:
            learner.initial()
        self.learner = learner
        return Nothing(), self._vector()

    def _adopt(self, frame: Frame) -> Done:
        adopted, learner = self.memory.adopted, self._learner()
        if not self.memory.shared:
            adopted[:] = np.frombuffer(frame.parts[1], np.float32)
        learner.write(adopted)
        return Nothing(), self._vector()

    def _train(self, frame: Frame) -> Done:
        exchange, learner = _head(Exchange, frame), self._learner()
        rows = _Rows(self)
        learner.train(rows, exchange.number, exchange.of)
        answer(self.channel, Nothing())
        frame = read_frame(read_exactly, {Kind.FINISH: _COMMANDS[Kind.FINISH]})
        trained = Trained(steps=learner.steps, learning_rate=learner.learning_rate)
        return trained, (as_bytes(learner.sums()), *self._vector())

    def _report(self, frame: Frame) -> Done:
        sums = np.frombuffer(frame.parts[1], np.float64)
        return self._learner().report(_head(Exchange, frame).number, sums), ()

    def _export(self, _frame: Frame) -> Done:
        return Nothing(), (memoryview(self._learner().export()),)

    def _state(self, _frame: Frame) -> Done:
        return Nothing(), (memoryview(self._learner().state()),)

    def _restore(self, frame: Frame) -> Done:
        self._learner().restore(bytes(frame.parts[1]))
        return _NOTHING

    def _load(self, frame: Frame) -> Done:
        self.model = ExportedModel(bytes(frame.parts[1]), self.opening.spec)
        return _NOTHING

    def _predict(self, frame: Frame) -> Done:
        if self.model is None:
            raise TrainingFailed(Reason.MODEL_INVALID)
        dataset = self.opening.spec.dataset
        x = np.frombuffer(frame.parts[1], dataset.input_dtype.value)
        answers = self.model.predict(x.reshape(_head(Count, frame).rows, *dataset.input_shape))
        return Nothing(), (as_bytes(answers),)

    @property
    def memory(self) -> LearnersMemory:
        """The arrays of a process that trains."""
        if self.arrays is None:
            raise TrainingFailed(Reason.ENGINE_FAILED)
        return self.arrays

    def _learner(self) -> Learner:
        if self.learner is None:
            raise TrainingFailed(Reason.ENGINE_FAILED)
        return self.learner

    def _vector(self) -> tuple[memoryview, ...]:
        """The vector, where the parent does not see it already."""
        return () if self.memory.shared else (as_bytes(self.memory.vector),)


class _Rows(Iterator[Examples]):
    """The rows that the parent hands over, chunk by chunk. Each is answered when the next is wanted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __next__(self) -> Examples:
        answer(self._engine.channel, Nothing())
        frame = read_frame(read_exactly, {Kind.ROWS: _COMMANDS[Kind.ROWS]})
        memory = self._engine.memory
        buffer = memory.rows if memory.shared else memoryview(frame.parts[1])
        return memory.rows_form.read(buffer, _head(Count, frame).rows)


def answer(channel: int, head: BaseModel, *content: memoryview) -> None:
    """Say that a command is done."""
    lengths = sum(len(part) for part in content)
    one = content if len(content) == 1 else (memoryview(b"".join(content)),)
    assert lengths == len(one[0])  # noqa: S101 - joined
    write_frame(Frame(Kind.DONE, (head.model_dump_json().encode(),)), *one, output=channel)


def _head(schema: type[Any], frame: Frame) -> Any:
    return schema.model_validate_json(bytes(frame.parts[0]))


def main() -> None:
    """Take a job, confine the process, and serve."""
    close_others()
    channel = os.dup(OUTPUT)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, OUTPUT)
    frame = read_frame(read_exactly, {Kind.OPEN: _COMMANDS[Kind.OPEN]})
    opening = _head(Opening, frame)
    memory = None
    if opening.learns:
        memory = LearnersMemory(opening.spec, _MEMORY if opening.shared else None)
    os.dup2(nowhere, _MEMORY)
    # Also the one that the mapping keeps.
    close_others(channel + 1)
    confine(memory_bytes=opening.memory_bytes, executable_memory=False, threads=False, output=channel)
    answer(channel, Nothing())
    Engine(opening, memory, channel).serve()


if __name__ == "__main__":
    main()
