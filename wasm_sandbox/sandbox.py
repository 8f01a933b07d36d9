"""The sandbox: one builder call in one fresh process, with what the data owner granted and nothing else."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chiron.wasm_sandbox.capability_data import CapabilityData, DatasetSample, DatasetStatistics
from chiron.wasm_sandbox.codec import Buffer, Frame, Kind
from chiron.wasm_sandbox.commands import RunCommand, dump, dump_sample, dump_statistics
from chiron.wasm_sandbox.compilation import compile_apart
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import Code, failure
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.module_cache import ModuleCache, cache_key
from chiron.wasm_sandbox.process import Worker
from chiron.wasm_sandbox.reports import Logged, RunReport, failure_in, parse, run_bounds
from chiron.wasm_sandbox.world import BUILD, REVISE
from chiron.wire.contract import BuildRequest, Capability, CapabilityGrants, Trial

LogSink = Callable[[str, str], None]
"""Called with severity and message of each line that a builder logged."""
_GRACE_SECONDS = 15.0
"""What starting, loading and ending a worker may take beside the run itself."""
_COUNTED = (
    "fuel", "memory_bytes", "memories", "table_elements", "tables", "instances", "stack_bytes", "graph_bytes",
    "recipe_bytes", "log_lines", "log_bytes",
)  # fmt: skip
"""Limits that the worker counts."""


@dataclass(frozen=True)
class BuilderOutput:
    """A builder's plan as it came: graph and recipe, bounded in size and not looked at any further."""

    graph: bytes
    recipe: bytes
    report: RunReport
    """How the run went."""


class Sandbox:
    """Runs builders. Every call blocks, and starts and ends processes of its own."""

    def __init__(
        self,
        limits: SandboxLimits = SandboxLimits(),  # noqa: B008 - frozen
        *,
        backend: Backend = Backend.PULLEY,
        cache: Path | None = None,
        log: LogSink | None = None,
    ) -> None:
        """Compiled components are kept in the directory `cache`; without one, the last is kept in memory.

        `log` is for a builder's author. Inside an enclave there is none, and lines are only counted.

        Raises:
            CacheUnsafe: somebody else could write into `cache`.
        """
        self._limits = limits
        self._backend = backend
        self._cache = None if cache is None else ModuleCache(cache)
        self._last: tuple[str, Buffer] | None = None
        self._log = log

    def prepare(self, component: bytes) -> None:
        """Compile a component, so that its next call begins at once.

        Raises:
            ComponentRefused, SandboxFailed: it does not compile.
        """
        self._compiled(component)

    def build(
        self,
        component: bytes,
        request: BuildRequest,
        grants: CapabilityGrants,
        data: CapabilityData,
        *,
        seed: int,
    ) -> BuilderOutput:
        """The builder's plan.

        Raises:
            ComponentRefused, CapabilityNotGranted: before any of its code ran.
            BuilderFailed, PlanRefused: by what it did.
            SandboxFailed: the process crashed, hung, or broke the protocol.
        """
        output = self._call(component, request, None, grants, data, seed)
        if output is None:
            raise failure(Code.SANDBOX_PROTOCOL, "no plan")
        return output

    def revise(
        self,
        component: bytes,
        request: BuildRequest,
        history: Sequence[Trial],
        grants: CapabilityGrants,
        data: CapabilityData,
        *,
        seed: int,
    ) -> BuilderOutput | None:
        """The plan for the next trial, or None if the builder has no better idea, or no `revise`.

        Raises:
            SandboxError: for the same reasons as `build`.
        """
        return self._call(component, request, history, grants, data, seed)

    def _call(
        self,
        component: bytes,
        request: BuildRequest,
        history: Sequence[Trial] | None,
        grants: CapabilityGrants,
        data: CapabilityData,
        seed: int,
    ) -> BuilderOutput | None:
        command, parts = run_command(
            request,
            history,
            grants,
            data,
            seed=seed,
            limits=self._limits,
            backend=self._backend,
            keep_log=self._log is not None,
        )
        answer = self._ask(component, dump(command), parts)
        failed = failure_in(answer)
        if failed is not None:
            self._pass_on_log(failed)
            raise failed.error()
        report = parse(RunReport, answer.parts[0])
        self._pass_on_log(report)
        return (
            BuilderOutput(bytes(answer.parts[1]), bytes(answer.parts[2]), report) if report.present else None
        )

    def _ask(self, component: bytes, command: bytes, parts: tuple[bytes, bytes]) -> Frame:
        # By itself, so that a builder's error does not keep a module of 34 MB alive by its traceback.
        module = self._compiled(component)
        bounds = run_bounds(self._limits, keep_log=self._log is not None)
        with Worker(self._limits.run_seconds + _GRACE_SECONDS) as worker:
            return worker.ask(Frame(Kind.RUN, (command, module, *parts)), bounds)

    def _pass_on_log(self, logged: Logged) -> None:
        if self._log is not None:
            for severity, message in logged.log:
                self._log(severity, message)

    def _compiled(self, component: bytes) -> Buffer:
        key = cache_key(component, self._backend, self._limits.stack_bytes)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        module: Buffer | None = None if self._cache is None else self._cache.load(key)
        if module is None:
            _, module = compile_apart(component, self._limits, self._backend, keep=True)
            if self._cache is not None:
                self._cache.store(key, module)
        if self._cache is None:
            self._last = (key, module)
        return module


def run_command(
    request: BuildRequest,
    history: Sequence[Trial] | None,
    grants: CapabilityGrants,
    data: CapabilityData,
    *,
    seed: int,
    limits: SandboxLimits,
    backend: Backend,
    keep_log: bool,
) -> tuple[RunCommand, tuple[bytes, bytes]]:
    """Command of `build`, or of `revise` if there is a history; and the bytes of statistics and sample.

    Raises:
        ValueError: something was granted and is not in `data`.
    """
    statistics, sample = _granted_statistics(grants, data), _granted_sample(grants, data)
    form, statistics_bytes = (None, b"") if statistics is None else dump_statistics(statistics)
    sizes, sample_bytes = (None, b"") if sample is None else dump_sample(sample)
    command = RunCommand(
        backend=backend.value,
        call=BUILD if history is None else REVISE,
        request=_request_record(request),
        granted=tuple(sorted(grants.granted)),
        seed=seed,
        limits={name: getattr(limits, name) for name in _COUNTED},
        run_seconds=limits.run_seconds,
        keep_log=keep_log,
        history=_granted_history(grants, history or ()),
        shape=_shape_record(data) if Capability.DATASET_SHAPE in grants.granted else {},
        statistics=form,
        sample=sizes,
    )
    return command, (statistics_bytes, sample_bytes)


def _granted_statistics(grants: CapabilityGrants, data: CapabilityData) -> DatasetStatistics | None:
    if Capability.DATASET_STATISTICS not in grants.granted:
        return None
    if data.statistics is None:
        raise ValueError("dataset-statistics is granted, and there are none")
    return data.statistics


def _granted_sample(grants: CapabilityGrants, data: CapabilityData) -> DatasetSample | None:
    if Capability.DATASET_SAMPLE not in grants.granted:
        return None
    if data.sample is None:
        raise ValueError("dataset-sample is granted, and there is none")
    count = grants.sample_examples
    return DatasetSample(data.sample.inputs[:count], data.sample.targets[:count])


def _granted_history(grants: CapabilityGrants, history: Sequence[Trial]) -> tuple[dict[str, Any], ...]:
    """All of it or nothing: outcomes, and recipes that were tried twice, tell of the scores, too."""
    if Capability.TRIAL_SCORES not in grants.granted:
        return ()
    return tuple(_trial_record(trial) for trial in history)


def _request_record(request: BuildRequest) -> dict[str, Any]:
    return {
        "task": request.task.value,
        "input-shape": list(request.input_shape),
        "input-type": request.input_dtype.value,
        "target-shape": list(request.target_shape),
        "classes": request.classes,
        "max-parameters": request.max_parameters,
        "trial": request.trial,
        "trials": request.trials,
    }


def _trial_record(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "outcome": trial.outcome.value,
        "validation-loss": _rounded(trial.validation_loss),
        "validation-score": _rounded(trial.validation_score),
        "recipe": trial.recipe,
    }


def _rounded(score: float) -> float:
    """Three significant digits, at most three decimals: a graph can write a count of rows into its loss."""
    return float(f"{round(score, 3):.3g}") if math.isfinite(score) else score


def _shape_record(data: CapabilityData) -> dict[str, Any]:
    return {
        "examples": data.shape.examples,
        "input-shape": list(data.shape.input_shape),
        "target-shape": list(data.shape.target_shape),
        "classes": data.shape.classes,
    }
