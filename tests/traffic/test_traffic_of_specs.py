"""The same for other public specs than the usual: in each, the trace follows from the spec alone."""

from collections.abc import Callable
from typing import Any

import pytest

from chiron.runtime import pacing
from chiron.runtime.roles import trainer
from chiron.runtime.training import feed, partition
from chiron.wire.contract import Oblivious
from chiron.wire.jobs import JobState
from chiron.wire.reports import OutcomeStatus
from scripts.benchmarks.in_process import LocalEngines
from tests.support import builders
from tests.support.datasets import Arrays, all_zero, digits, shuffled_labels
from tests.traffic.comparing import difference
from tests.traffic.conftest import Run

PACED = {"unpaced": False}
SPECS: dict[str, dict[str, Any]] = {
    "sync, bfloat16": {"mode": "sync", "terms": {"dtype": "bfloat16"}},
    "local over two shards, median": {"terms": {"shards": 2, "merge": "median"}},
    "async over two shards": {"mode": "async", "terms": {"shards": 2}},
    "streamed": {"exchanges": 8},
    "streamed, paced": {"exchanges": 8, "terms": PACED},
}


class EnginesOfThisProcess(LocalEngines):
    """As a trainer makes them."""

    def start_ahead(self) -> None:
        """There is nothing to start."""

    def end(self) -> None:
        """There is nothing to end."""


TRAPPING = builders.BUILDERS["one that traps"]
OTHERS: list[tuple[Callable[[], Arrays], Callable[[], bytes], OutcomeStatus]] = [
    (shuffled_labels, builders.diverging, OutcomeStatus.DIVERGED),
    (all_zero, TRAPPING, OutcomeStatus.BUILDER_REFUSED),
]


@pytest.mark.parametrize("name", SPECS)
def test_the_trace_follows_from_the_spec(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = SPECS[name]
    if name.startswith("streamed"):
        monkeypatch.setattr(partition, "IN_MEMORY_BYTES", 1000)
        # Windows of two chunks. An engine in another process would know neither of them.
        for module in (feed, pacing):
            monkeypatch.setattr(module, "WINDOW_BYTES", 9000)
        monkeypatch.setattr(trainer, "Engines", EnginesOfThisProcess)
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


def test_a_strict_job_trains_answers_and_refuses_with_one_trace(run: Run) -> None:
    """From the owner's spec to an answer: a table by data has a form, a wave has none."""
    strict = {"oblivious": Oblivious.STRICT, "queries": [digits()[0][:3]]}
    usual = run(digits(), builders.looking_up(), **strict)
    assert usual.job.spec.oblivious is Oblivious.STRICT
    assert usual.job.state is JobState.SUCCEEDED
    assert usual.outcome.status is OutcomeStatus.TRAINED
    refused = run(shuffled_labels(), builders.looking_up(then="Sin"), **strict)
    assert refused.outcome.status is OutcomeStatus.BUILDER_REFUSED
    assert difference(usual, refused) is None
