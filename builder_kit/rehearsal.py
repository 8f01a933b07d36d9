"""A builder tried on this machine: the same sandbox, the same engine's process, no enclave.

For builders' authors, on data of their own. Nothing of it is private: the dataset is in memory in the
clear, and the builder's log lines are shown.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import ChunkForm, DatasetWriter, EncryptedDataset, Examples
from chiron.runtime.datasets.statistics import collect
from chiron.runtime.engine.frames import Admitted, StrictFormSaid
from chiron.runtime.engine.learner import RemoteLearner
from chiron.runtime.engine.process import EngineProcess
from chiron.runtime.training.partition import Partition, due_chunks
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wasm_sandbox.sandbox import BuilderOutput, LogSink, Sandbox
from chiron.wire.contract import BuilderManifest, Capability, CapabilityGrants, Oblivious
from chiron.wire.exchange import ExchangeSpec
from chiron.wire.jobs import JobSpec
from chiron.wire.reports import TrainingReport

_CHUNK_ROWS = 256
_LIMITS = SandboxLimits(parallel_compilation=True)
"""An enclave's, but for the cores that compile."""
_EVERYTHING = CapabilityGrants(granted=frozenset(Capability), sample_examples=32)


class Form(Protocol):
    """What examples look like, and how many there are."""

    @property
    def examples(self) -> int:
        """The number of examples."""
        ...

    def chunk_form(self, rows: int) -> ChunkForm:
        """The form of chunks of `rows` examples."""
        ...


class Source(Protocol):
    """Where examples come from: every source of the client's is one (`chiron.open_source`)."""

    @property
    def description(self) -> Form:
        """The examples' form."""
        ...

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The examples numbered `rows`, in batches of `size`."""
        ...


@dataclass(frozen=True)
class Scale:
    """How much of a job is rehearsed."""

    rows: int = 4096
    """Examples of the source that are used, at most."""
    steps: int = 200
    """Optimizer steps, at most; the recipe's own number if that is smaller."""
    reports: int = 10
    """Points of the curve."""
    validation_percent: int = 20
    seed: int = 0


class RehearsalReport(TrainingReport):
    """A point of the curve as only the builder's author sees it."""

    steps: int
    """Optimizer steps taken so far."""
    learning_rate: float


@dataclass(frozen=True)
class Rehearsal:
    """What came of it."""

    plan: BuilderOutput
    graph: Admitted
    recipe: Recipe
    """The recipe as it was trained with: its number of steps is the scale's."""
    reports: tuple[RehearsalReport, ...]
    model: bytes
    """The trained model, ONNX: `input` to class scores or values."""
    strict: "StrictTold | None"
    """What `oblivious: strict` would do to the graph, where that was asked for."""


@dataclass(frozen=True)
class StrictTold:
    """What a strict job would put in another form, or why it would refuse the plan."""

    forms: tuple[StrictFormSaid, ...] = ()
    refused: str | None = None
    """A stable code."""
    detail: str = ""
    """The operator's name, where it is one that has no form."""


async def rehearse(
    component: bytes,
    manifest: BuilderManifest,
    source: Source,
    *,
    scale: Scale = Scale(),
    oblivious: Oblivious = Oblivious.CLAMPED,
    tell_strict: bool = False,
    log: LogSink | None = None,
    cache: Path | None = None,
    progress: Callable[[RehearsalReport], None] | None = None,
) -> Rehearsal:
    """Run the builder on the source's examples and train its model for a few steps.

    Args:
        component: the builder; it is granted everything.
        manifest: its envelope bounds the rehearsal as it would a job.
        source: where examples come from.
        scale: how much of them, and for how long.
        oblivious: as in a job's terms; what has no strict form is refused by its operator's name.
        tell_strict: whether to say what a strict job would do to the graph.
        log: called with severity and text of each line that the builder logs.
        cache: directory of compiled components.
        progress: called with each point of the curve as it is reached.

    Raises:
        SandboxError: the builder failed, or its plan is refused.
        TrainingFailed: the graph cannot be trained.
        SourceInvalid: the source cannot be read.
    """
    spec, dataset = _job(manifest, component, source, scale, oblivious)
    data = await collect(dataset, range(spec.dataset.chunks), _EVERYTHING, spec.seed)
    sandbox = Sandbox(_LIMITS, log=log, cache=cache)
    request = spec.build_request()
    plan = sandbox.build(component, request, _EVERYTHING, data, seed=spec.seed)
    recipe = _shortened(parse_recipe(plan.recipe), scale.steps, spec)
    engine = EngineProcess()
    try:
        learner = RemoteLearner(engine, spec, index=0, trial=0)
        content = (plan.graph, recipe.model_dump_json().encode(), component)
        graph = await learner.admit(*content)
        await learner.begin(from_start=True)
        reports = await _trained(learner, spec, dataset, progress)
        model = await learner.export()
        strict = await _told(learner, *content) if tell_strict else None
        return Rehearsal(plan, graph, recipe, tuple(reports), model, strict)
    finally:
        await engine.close()


async def _told(learner: RemoteLearner, graph: bytes, recipe: bytes, component: bytes) -> StrictTold:
    """The plan was admitted as clamped already: what is refused now is so because of strict."""
    try:
        return StrictTold(await learner.strict_forms(graph, recipe, component))
    except SandboxError as error:
        return StrictTold(refused=error.code, detail=error.detail)


async def _trained(
    learner: RemoteLearner,
    spec: JobSpec,
    dataset: EncryptedDataset,
    progress: Callable[[RehearsalReport], None] | None,
) -> list[RehearsalReport]:
    partition, reports = Partition.of(spec, 0), []
    for exchange in range(spec.exchange.exchanges):
        await learner.start(exchange, spec.exchange.exchanges)
        async for examples in dataset.read(due_chunks(partition, exchange, first=exchange == 0)):
            await learner.take(examples)
        await learner.finish()
        report = await learner.report(exchange, learner.sums())
        told = {"steps": learner.steps, "learning_rate": learner.learning_rate}
        reports.append(RehearsalReport.model_validate(report.model_dump() | told))
        if progress is not None:
            progress(reports[-1])
    return reports


def _job(
    manifest: BuilderManifest, component: bytes, source: Source, scale: Scale, oblivious: Oblivious
) -> tuple[JobSpec, EncryptedDataset]:
    """A job of one trainer over a dataset that is encrypted with a key of the moment."""
    key = secrets.token_bytes(32)
    form = source.description.chunk_form(_CHUNK_ROWS)
    writer = DatasetWriter(form, secrets.token_hex(16), key)
    rows = np.random.default_rng(scale.seed).permutation(source.description.examples)[: scale.rows]
    batches = list(source.read(rows, _CHUNK_ROWS))
    chunks = [writer.seal(batch, last=batch is batches[-1]) for batch in batches]

    async def fetch(number: int) -> bytes:
        return chunks[number]

    described = writer.manifest()
    parameters = manifest.envelope.max_parameters
    spec = JobSpec(
        job=secrets.token_hex(16),
        dataset=described,
        builder_sha256=sha256(component).hexdigest(),
        envelope=manifest.envelope,
        exchange=ExchangeSpec(parameters=parameters, trainers=1, exchanges=scale.reports),
        seed=scale.seed,
        validation_percent=scale.validation_percent,
        oblivious=oblivious,
    )
    return spec, EncryptedDataset(described, key, fetch)


def _shortened(recipe: Recipe, steps: int, spec: JobSpec) -> Recipe:
    """The recipe for at most so many steps: its schedule is stretched over them."""
    wanted = recipe.steps or (recipe.epochs or 10) * -(-spec.dataset.examples // recipe.batch_size)
    return recipe.model_copy(update={"epochs": None, "steps": min(wanted, steps)})


def sparkline(values: Sequence[float]) -> str:
    """A row of blocks, the lowest value as the lowest block; what is not finite is a gap."""
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(
        blocks[round((value - low) / span * (len(blocks) - 1))] if np.isfinite(value) else " "
        for value in values
    )
