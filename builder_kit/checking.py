"""What would fail in a job fails here: a builder tried on each shape that its manifest names.

The builder runs in its sandbox, its plan is admitted and differentiated in the engine's process, one step is
taken and the model written, on rows of zeros and ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.builder_kit.rehearsal import Scale, StrictTold, rehearse
from chiron.runtime.datasets import ChunkForm, Examples
from chiron.wasm_sandbox.sandbox import LogSink
from chiron.wire.contract import BuilderManifest, ExampleForm, InputType, Task

_ROWS = 64
_SCALE = Scale(rows=_ROWS, steps=1, reports=1, validation_percent=0)


@dataclass(frozen=True)
class Tried:
    """A shape for which everything went well."""

    form: ExampleForm
    parameters: int
    strict: StrictTold
    """What a job with `oblivious: strict` would do to its graph."""


async def try_shapes(
    component: bytes, manifest: BuilderManifest, *, log: LogSink | None = None, cache: Path | None = None
) -> list[Tried]:
    """Build, admit, differentiate and train for a step, for each of the manifest's shapes.

    Args:
        component: the builder; it is granted everything.
        manifest: its envelope bounds the trial as it would a job.
        log: called with severity and text of each line that the builder logs.
        cache: directory of compiled components.

    Raises:
        SandboxError: the builder failed, or its plan is refused.
        TrainingFailed: the graph cannot be trained.
    """
    tried = []
    for form in manifest.shapes:
        result = await rehearse(
            component, manifest, _Rows(form), scale=_SCALE, tell_strict=True, log=log, cache=cache
        )
        tried.append(Tried(form, result.graph.parameters, result.strict or StrictTold()))
    return tried


@dataclass(frozen=True)
class _Rows:
    """A source of rows of zeros and ones: in range for whatever a graph takes its inputs for."""

    form: ExampleForm

    @property
    def description(self) -> "_Rows":
        return self

    @property
    def examples(self) -> int:
        return _ROWS

    def chunk_form(self, rows: int) -> ChunkForm:
        form = self.form
        return ChunkForm(
            form.task, form.input_shape, InputType(form.input_dtype), form.target_shape, form.classes, rows
        )

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        random = np.random.default_rng(0)
        for start in range(0, len(rows), size):
            count = len(rows[start : start + size])
            drawn = random.integers(0, 2, (count, *self.form.input_shape))
            yield Examples(drawn.astype(self.form.input_dtype.value), self._targets(count))

    def _targets(self, count: int) -> NDArray[Any]:
        if self.form.task is Task.CLASSIFICATION:
            return np.arange(count, dtype=np.int64) % self.form.classes
        return np.ones((count, *self.form.target_shape), np.float32)
