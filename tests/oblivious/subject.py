"""A step, a validation and a prediction of one graph, in arrays that do not move.

    python -m tests.oblivious.subject FOLDER CASES RESULTS

under `tests.support.page_trace`: traces each case with each of its inputs, and writes a list of
their traces, [inputs, phases, 5]. A process is copied for every input, so that all begin alike.
"""

import ctypes
import gc
import mmap
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import Examples
from chiron.runtime.training.allocation import StepAllocation
from chiron.runtime.training.batches import Batch, Portion
from chiron.runtime.training.forms import in_form
from chiron.runtime.training.graphs import inference_model
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.metrics import Validator
from chiron.runtime.training.rewrites import finish_strict
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import ExportedModel, initial_values
from chiron.runtime.training.stepper import Stepper
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import Oblivious
from chiron.wire.jobs import SUMS, JobSpec

FIELDS = 5
PHASES = ("step", "validation", "prediction")
_WARM = 3
"""Runs before the traced one: the engine plans its memory in the first, and caches fill."""
_ALIGNED = 64


class Case(NamedTuple):
    """A graph, and inputs and targets of one shape."""

    name: str
    graph: AdmittedGraph
    recipe: Recipe
    spec: JobSpec
    data: tuple[tuple[NDArray[Any], NDArray[Any]], ...]


class Subject:
    """Does to the data in its memory what a trainer and a predictor do."""

    def __init__(self, case: Case) -> None:
        recipe, spec, (x, y) = case.recipe, case.spec, case.data[0]
        request, seeds = spec.build_request(), Seeds(1)
        graph = in_form(case.graph, spec.oblivious)
        layout = FlatLayout(graph.parameters)
        vector = initial_values(graph, layout, seeds)
        self._stepper = Stepper(
            training_model(graph, recipe, request, oblivious=spec.oblivious),
            layout,
            recipe,
            request,
            StepAllocation(1, 100, 2, 1),
            seeds,
            vector=vector,
            variances=[],
            threads=1,
        )
        self._stepper.adopt(vector.copy())
        self._validator = Validator(graph, recipe, request, layout, vector, 1, spec.oblivious)
        model = inference_model(graph, layout.views(vector), recipe, request.task)
        if spec.oblivious is Oblivious.STRICT:
            finish_strict(model)
        self._exported = ExportedModel(model.SerializeToString(), spec)
        self._sums = np.zeros(SUMS)
        after = -(-x.nbytes // _ALIGNED) * _ALIGNED
        self.memory = np.zeros(after + y.nbytes, np.uint8)
        self.x = self.memory[: x.nbytes].view(x.dtype).reshape(x.shape)
        self.y = self.memory[after:].view(y.dtype).reshape(y.shape)
        self._portion = Portion(Examples(self.x, self.y), [Batch(0, np.arange(len(x)))])

    def put(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Make these the data."""
        self.x[...], self.y[...] = x, y

    def step(self) -> None:
        """One optimizer step."""
        self._stepper.learn(self._portion, self._sums)

    def validation(self) -> None:
        """One validation."""
        self._validator.add(self._portion.examples, self._sums)

    def prediction(self) -> None:
        """One prediction."""
        self._exported.predict(self.x)


def trace(marks: ctypes.CDLL, subject: Subject, case: Case) -> NDArray[np.uint64]:
    """The traces [inputs, phases, 5] of one case."""
    inputs = np.zeros((len(case.data), len(subject.memory)), np.uint8)
    for number, (x, y) in enumerate(case.data):
        subject.put(x, y)
        inputs[number] = subject.memory
    found = np.frombuffer(mmap.mmap(-1, inputs.shape[0] * len(PHASES) * FIELDS * 8), np.uint64)
    runs = [getattr(subject, phase) for phase in PHASES]
    arguments = (subject.memory.ctypes.data, inputs.ctypes.data, len(subject.memory), found.ctypes.data)
    if (made := marks.copies(len(case.data), *map(ctypes.c_void_p, arguments), len(PHASES))) > 0:
        for run in runs:
            marks.begin()
            run()
            marks.end()  # the last ends the copy
    if made < 0:
        raise RuntimeError(f"{case.name}: a copy did not end")
    return found.reshape(len(case.data), len(PHASES), FIELDS).copy()


def main(folder: str, cases_path: str, results_path: str) -> None:
    """Trace all cases."""
    cases: list[Case] = pickle.loads(Path(cases_path).read_bytes())  # noqa: S301 - of our own test
    marks = ctypes.CDLL(f"{folder}/page_marks.so")
    gc.disable()
    with np.errstate(all="ignore"):
        subjects = [Subject(case) for case in cases]
        for _ in range(_WARM):
            for subject in subjects:
                for phase in PHASES:
                    getattr(subject, phase)()
        marks.instrument()
        traces = []
        for subject, case in zip(subjects, cases, strict=True):
            for phase in PHASES:
                getattr(subject, phase)()
            traces.append(trace(marks, subject, case))
    Path(results_path).write_bytes(pickle.dumps(traces))


if __name__ == "__main__":
    main(*sys.argv[1:])
