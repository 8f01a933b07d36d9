"""Whatever becomes of an engine's process, the host sees what it sees of any job."""

from typing import Any

import pytest

from chiron.runtime.engine.frames import Kind
from chiron.runtime.roles.plan import Plan, read_plan
from chiron.wire.jobs import JobSpec, JobState
from chiron.wire.reports import OutcomeStatus
from tests.support import builders
from tests.support.datasets import digits
from tests.support.engines import Fault, Way
from tests.traffic.comparing import difference
from tests.traffic.conftest import Run
from tests.traffic.world import View


@pytest.fixture(scope="module")
def usual(run: Run) -> View:
    view = run(digits(), builders.orderly())
    assert view.outcome.status is OutcomeStatus.TRAINED
    return view


FAULTS = [
    (Way.KILLED, Kind.ADMIT, True), (Way.KILLED, Kind.BEGIN, False), (Way.KILLED, Kind.ADOPT, True),
    (Way.KILLED, Kind.ROWS, False), (Way.STOPPED, Kind.FINISH, True), (Way.KILLED, Kind.REPORT, False),
    (Way.KILLED, Kind.STATE, True), (Way.KILLED, Kind.EXPORT, True), (Way.GARBAGE, Kind.TRAIN, None),
]  # fmt: skip


@pytest.mark.parametrize(("way", "stage", "leading"), FAULTS, ids=str)
def test_the_trace_does_not_depend_on_what_becomes_of_an_engine(
    way: Way,
    stage: Kind,
    leading: bool | None,
    usual: View,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault = Fault(way, stage, leading=leading)
    fault.strike(monkeypatch)
    view = run(digits(), builders.orderly())
    assert fault.struck == 1
    assert fault.left == []
    assert difference(usual, view) is None
    assert view.job.state is JobState.SUCCEEDED
    assert view.outcome.status is OutcomeStatus.TRAINING_FAILED
    own = "training-failed" if leading or stage is Kind.ADMIT else "peer-idle"
    assert view.outcome.code in ({own} if leading is not None else {"training-failed", "peer-idle"})


READS = "chiron.runtime.roles.builder.read_plan"
"""What reads a builder's answer."""


def test_the_trace_does_not_depend_on_what_a_builders_answer_makes_anything_raise(
    usual: View, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise RecursionError("of what the builder answered")

    # No answer that we know of does: this is for those that we do not.
    monkeypatch.setattr(READS, read)
    view = run(digits(), builders.orderly())
    assert difference(usual, view) is None
    assert view.job.state is JobState.SUCCEEDED
    assert (view.outcome.status, view.outcome.code) == (OutcomeStatus.TRAINING_FAILED, "training-failed")
    assert view.outcome.detail == ""


def test_nor_in_a_later_trial_which_costs_only_that_trial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    component = builders.REVISING["one that improves once"]()

    def read_first(spec: JobSpec, trial: int, graph: bytes, recipe: bytes) -> Plan:
        if trial:
            raise RecursionError
        return read_plan(spec, trial, graph, recipe)

    request: dict[str, Any] = {"trainers": 1, "exchanges": 2, "trials": 2}
    usual = run(digits(), component, **request)
    monkeypatch.setattr(READS, read_first)
    view = run(digits(), component, **request)
    assert difference(usual, view) is None
    assert view.outcome.status is OutcomeStatus.TRAINED
    assert view.outcome.metrics is not None
    assert view.outcome.metrics.trial == 0
