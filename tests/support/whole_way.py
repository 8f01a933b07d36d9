"""A graph's whole way: admission, gradient, steps, validation, export, prediction, in a process of its own.

Admission may refuse it and the engine may fail on it, each with a code of ours. Whatever else happens (the
process ends, hangs, takes more memory than admission has counted, or raises another error) is a finding.
"""

import os
import resource
import signal
from contextlib import suppress
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from safetensors.numpy import save

from chiron.runtime.datasets import Examples
from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.learner import Learner
from chiron.runtime.training.sessions import ExportedModel
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import Assets
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.limits import GraphLimits
from chiron.wasm_sandbox.recipe import CrossEntropy, MeanSquaredError, Recipe
from chiron.wire.contract import BuildRequest, Envelope, InputType, Task
from tests.support.jobs import make_job

CLASSES, ROWS, BATCH, PARAMETERS = 3, 48, 16, 500_000
SMALL = GraphLimits(
    activation_bytes_per_example=2**22, activation_bytes_fixed=2**22, workspace_bytes=2**24, nodes=500
)
ENVELOPE = Envelope(max_parameters=PARAMETERS)
ASSETS = Assets({"file": save({"tensor": np.ones((4, 3), np.float32)})})
SECONDS = 20
_OVERHEAD_BYTES = 128 * 2**20
"""What sessions take beside the values: the engine's code, kernels' work space, Python."""
_ELEMENT = {2: InputType.UINT8}
_USUAL = (4,)
"""One example's shape, where a graph does not say what it takes."""


class Ending(IntEnum):
    """How a child says that it has ended."""

    PREDICTED = 0
    FAILED = 10
    """With a code of the engine's own."""
    FOUND = 20


def request_for(content: bytes) -> BuildRequest:
    """A job whose rows are what the graph says it takes: a regression where it makes one number a row."""
    shape, kind, regresses = _USUAL, InputType.FLOAT32, False
    with suppress(Exception):
        graph = ModelProto.FromString(content).graph
        regresses = len(graph.output[0].type.tensor_type.shape.dim) == 1
        tensor = graph.input[0].type.tensor_type
        kind = _ELEMENT.get(tensor.elem_type, InputType.FLOAT32)
        found = tuple(dim.dim_value for dim in tensor.shape.dim[1:])
        if len(found) <= 4 and all(1 <= size <= 64 for size in found) and np.prod(found) <= 4096:
            shape = found
    if regresses:
        return BuildRequest(
            task=Task.REGRESSION, input_shape=shape, input_dtype=kind, max_parameters=PARAMETERS
        )
    return BuildRequest(
        task=Task.CLASSIFICATION,
        input_shape=shape,
        input_dtype=kind,
        classes=CLASSES,
        max_parameters=PARAMETERS,
    )


def rows_for(request: BuildRequest, seed: int) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Rows [ROWS, …]: of 0 to 1; and where there can be, some of NaN, infinities and very large numbers."""
    random = np.random.default_rng(seed)
    if request.input_dtype is InputType.UINT8:
        return random.integers(0, 256, (ROWS, *request.input_shape), dtype=np.uint8)
    x = random.random((ROWS, *request.input_shape), dtype=np.float32)
    for row, value in ((5, np.nan), (17, -np.inf), (23, np.inf), (29, 3e38), (31, -1e30), (37, 1e-40)):
        x[row] = value
    return x


def go(content: bytes) -> str:
    """The code of the refusal, or what the child said: `predicted`, `failed`, or `found: …`."""
    request = request_for(content)
    try:
        graph = admit(content, request, ENVELOPE, assets=ASSETS, limits=SMALL)
    except SandboxError as error:
        return str(error.code)
    return in_child(graph, request)


def in_child(graph: AdmittedGraph, request: BuildRequest) -> str:
    """What becomes of an admitted graph."""
    child = os.fork()
    if child == 0:
        _end_as(graph, request)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"found: ended by {signal.Signals(os.WTERMSIG(status)).name}"
    try:
        ending = Ending(os.WEXITSTATUS(status))
    except ValueError:
        return f"found: ended with status {os.WEXITSTATUS(status)}"
    if ending is Ending.FOUND:
        return "found: an error of no code, or memory beyond bounds"
    return ending.name.lower()


def _end_as(graph: AdmittedGraph, request: BuildRequest) -> None:
    """Never returns."""
    ending = Ending.FOUND
    try:
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ending = run_here(graph, request)
    finally:
        os._exit(ending)


def run_here(graph: AdmittedGraph, request: BuildRequest) -> Ending:
    """The way of an admitted graph in this process."""
    x = rows_for(request, 1)
    y = np.arange(ROWS) % CLASSES if request.classes else np.linspace(-1, 1, ROWS, dtype=np.float32)
    job, rows = (
        make_job(x, y, classes=request.classes, rows=ROWS, parameters=PARAMETERS),
        Examples(x, y),
    )
    loss: Any = CrossEntropy() if request.classes else MeanSquaredError()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        learner = Learner(graph, Recipe(loss=loss, epochs=2, batch_size=BATCH), job.spec, index=0, trial=0)
        learner.initial()
        for exchange in range(4):
            learner.train(iter([rows for _ in learner.due(exchange)]), exchange, 4)
            learner.report(exchange, learner.sums())
        ExportedModel(learner.export(), job.spec).predict(x)
        ending = Ending.PREDICTED
    except (TrainingFailed, SandboxError):
        ending = Ending.FAILED
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # Steps go forward and backward, predictions forward; arenas grow in powers of two and are kept.
    counted = 2 * ((2 * BATCH + ROWS) * graph.activation_bytes_per_example + 3 * graph.activation_bytes_fixed)
    return ending if grown <= counted + _OVERHEAD_BYTES else Ending.FOUND
