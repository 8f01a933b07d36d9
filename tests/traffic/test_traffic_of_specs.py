"""The same for other public specs than the usual: in each, the trace follows from the spec alone."""

from collections.abc import Callable
from typing import Any

import pytest

from chiron.runtime.training import partition
from chiron.wire.jobs import JobState
from chiron.wire.reports import OutcomeStatus
from tests.support import builders
from tests.support.datasets import Arrays, all_zero, digits, shuffled_labels
from tests.traffic.comparing import difference
from tests.traffic.conftest import Run

SPECS: dict[str, dict[str, Any]] = {
    "sync, bfloat16, paced": {"mode": "sync", "terms": {"dtype": "bfloat16", "period_s": 0.2}},
    "local over two shards, median": {"terms": {"shards": 2, "merge": "median"}},
    "async over two shards": {"mode": "async", "terms": {"shards": 2}},
    "streamed": {"exchanges": 8},
}
TRAPPING = builders.BUILDERS["one that traps"]
OTHERS: list[tuple[Callable[[], Arrays], Callable[[], bytes], OutcomeStatus]] = [
    (shuffled_labels, builders.diverging, OutcomeStatus.DIVERGED),
    (all_zero, TRAPPING, OutcomeStatus.BUILDER_REFUSED),
]


@pytest.mark.parametrize("name", SPECS)
def test_the_trace_follows_from_the_spec(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = SPECS[name]
    if name == "streamed":
        monkeypatch.setattr(partition, "IN_MEMORY_BYTES", 1000)
    usual = run(digits(), builders.orderly(), **request)
    assert usual.outcome.status is OutcomeStatus.TRAINED
    assert usual.job.state is JobState.SUCCEEDED
    for data, builder, expected in OTHERS:
        view = run(data(), builder(), **request)
        assert difference(usual, view) is None
        assert view.outcome.status is expected


TRIALS = {"trials": 2, "exchanges": 4}
OUTCOMES = {"one that builds nothing": OutcomeStatus.BUILDER_REFUSED}


def test_the_trace_does_not_depend_on_what_the_builder_revises(run: Run) -> None:
    usual = run(digits(), builders.orderly(), **TRIALS)
    assert usual.job.state is JobState.SUCCEEDED
    for kind, builder in builders.REVISING.items():
        data = shuffled_labels() if kind == "one that gives up" else digits()
        view = run(data, builder(), **TRIALS)
        assert difference(usual, view) is None, kind
        assert view.outcome.status is OUTCOMES.get(kind, OutcomeStatus.TRAINED)
