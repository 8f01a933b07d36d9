"""One call of a builder as terms for the worker: of the capability data, only what is granted goes along."""

from collections.abc import Sequence
from typing import Any

from chiron.wasm_sandbox.capability_data import CapabilityData, DatasetSample, DatasetStatistics
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.terms import RunTerms, dump_sample, dump_statistics
from chiron.wasm_sandbox.world import BUILD, REVISE
from chiron.wire.contract import BuildRequest, Capability, CapabilityGrants, Trial

_COUNTED = (
    "fuel", "memory_bytes", "memories", "table_elements", "tables", "instances", "stack_bytes", "graph_bytes",
    "recipe_bytes", "log_lines", "log_bytes",
)  # fmt: skip
"""Limits that the worker counts."""


def run_terms(
    request: BuildRequest,
    history: Sequence[Trial] | None,
    grants: CapabilityGrants,
    data: CapabilityData,
    *,
    seed: int,
    limits: SandboxLimits,
    backend: Backend,
    keep_log: bool,
) -> tuple[RunTerms, tuple[bytes, bytes]]:
    """Terms of `build`, or of `revise` if there is a history; and the bytes of statistics and sample.

    Raises:
        ValueError: something was granted and is not in `data`.
    """
    statistics, sample = _granted_statistics(grants, data), _granted_sample(grants, data)
    form, statistics_bytes = (None, b"") if statistics is None else dump_statistics(statistics)
    sizes, sample_bytes = (None, b"") if sample is None else dump_sample(sample)
    terms = RunTerms(
        backend=backend.value,
        call=BUILD if history is None else REVISE,
        request=_request_record(request),
        granted=tuple(sorted(grants.granted)),
        seed=seed,
        limits={name: getattr(limits, name) for name in _COUNTED},
        run_seconds=limits.run_seconds,
        keep_log=keep_log,
        history=tuple(_trial_record(trial) for trial in history or ()),
        shape=_shape_record(data) if Capability.DATASET_SHAPE in grants.granted else {},
        statistics=form,
        sample=sizes,
    )
    return terms, (statistics_bytes, sample_bytes)


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
        "validation-loss": trial.validation_loss,
        "validation-score": trial.validation_score,
        "recipe": trial.recipe,
    }


def _shape_record(data: CapabilityData) -> dict[str, Any]:
    return {
        "examples": data.shape.examples,
        "input-shape": list(data.shape.input_shape),
        "target-shape": list(data.shape.target_shape),
        "classes": data.shape.classes,
    }
