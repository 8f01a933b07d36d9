"""Answers with all that it can see: the request, every capability, the history."""

import json
from dataclasses import fields, is_dataclass
from enum import Enum

from componentize_py_types import Err
from wit_world.imports import dataset_sample, dataset_shape, dataset_statistics, log, random, trial_scores, types


def plain(value):
    """As JSON has it."""
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def plan(seen):
    return types.Plan(graph=b"", recipe=json.dumps(plain(seen)))


def build(request):
    try:
        return see(request)
    except Exception as error:
        raise Err(repr(error)) from None


def see(request):
    log.write(log.Level.WARNING, "line one")
    log.write(log.Level.DEBUG, "line \N{GREEK SMALL LETTER ALPHA}")
    return plan(
        {
            "request": request,
            "shape": dataset_shape.describe(),
            "granularity": dataset_statistics.input_granularity(),
            "inputs": dataset_statistics.inputs(),
            "levels": dataset_statistics.quantile_levels(),
            "quantiles": dataset_statistics.input_quantiles(),
            "targets": dataset_statistics.targets(),
            "counts": dataset_statistics.class_counts(),
            "count": dataset_sample.count(),
            "samples": [dataset_sample.get(index) for index in range(dataset_sample.count())],
            "beyond": dataset_sample.get(2**32 - 1),
            "random": [random.next_u64(), random.bytes(5), random.next_u64(), random.bytes(0)],
        }
    )


def revise(request):
    history = trial_scores.history()
    if not history:
        return None
    return plan({"request": request, "history": history})
