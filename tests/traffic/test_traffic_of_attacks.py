"""Builders whose graphs attack the engine, and rows that trip them: the host sees what it sees of any job."""

import pytest

from chiron.builder_kit.component import static_component
from chiron.wire.jobs import JobState
from chiron.wire.reports import OutcomeStatus
from tests.support.builders import orderly, padded, recipe
from tests.support.datasets import Arrays, digits
from tests.support.leaking_graphs import LEAKING, TRIP, TRIPPING_QUERY_PIXEL
from tests.traffic.comparing import difference
from tests.traffic.conftest import Run
from tests.traffic.world import View

CODES = {
    "logging_rows": None,
    "logging_a_query": None,
    "pooling_what_is_not_finite": "diverged",
    "naming_an_asset_that_is_no_text": "graph-malformed",
    "slicing_by_the_largest_step": "constant-invalid",
    "normalising_a_vector": "operands-mismatch",
}
"""What their owner is told in place of a model. Where there is one, indices were held to their bounds."""


def tripping() -> Arrays:
    """The digits, with one pixel that trips a pool."""
    x, y = digits()
    x[123, 3, 3] = TRIP
    return x, y


def run_with(run: Run, component: bytes) -> View:
    """A job on these, an ordinary query and one that trips."""
    ordinary = digits()[0][:1]
    trips = ordinary.copy()
    trips[0, 0, 0] = TRIPPING_QUERY_PIXEL
    return run(tripping(), component, trainers=1, queries=[ordinary, trips])


@pytest.fixture(scope="module")
def usual(run: Run) -> View:
    view = run_with(run, orderly())
    assert view.outcome.status is OutcomeStatus.TRAINED
    return view


@pytest.mark.parametrize("graph", LEAKING)
def test_the_trace_does_not_depend_on_a_graph_that_attacks_the_engine(
    graph: str, usual: View, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {"epochs": 1, "batch_size": 1 if graph == "pooling_what_is_not_finite" else 32}
    component = padded(static_component(LEAKING[graph](), recipe(**changes)))
    view = run_with(run, component)
    assert difference(usual, view) is None
    assert view.job.state is JobState.SUCCEEDED
    assert capfd.readouterr() == ("", ""), "no library of any process has written a byte"
    trained = view.outcome.status is OutcomeStatus.TRAINED
    assert (None if trained else view.outcome.code) == CODES[graph]
