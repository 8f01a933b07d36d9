"""What the host can observe is a function of the public job spec: the same spec gives the same trace.

Everything is recorded that crosses an enclave's border: calls to the gateway with their sizes and order, TLS
records between enclaves with theirs, objects in storage, log lines, exit codes. Data and builders differ in
every way that could leave a mark; the trace must not.
"""

from collections.abc import Callable

import pytest

from chiron.wire.jobs import JobState
from chiron.wire.reports import OutcomeStatus
from tests.support import builders
from tests.support.datasets import (
    Arrays,
    all_zero,
    digits,
    one_class_but_for_one_row_each,
    shuffled_labels,
)
from tests.traffic.comparing import difference
from tests.traffic.conftest import Run
from tests.traffic.world import View


@pytest.fixture(scope="module")
def usual(run: Run) -> View:
    """The digits with an orderly builder: what all others must look like."""
    view = run(digits(), builders.orderly())
    assert view.outcome.status is OutcomeStatus.TRAINED
    assert view.job.state is JobState.SUCCEEDED
    return view


DATA = [digits, shuffled_labels, all_zero, one_class_but_for_one_row_each]


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
def test_the_trace_does_not_depend_on_the_data(usual: View, run: Run, data: Callable[[], Arrays]) -> None:
    assert difference(usual, run(data(), builders.orderly())) is None


OUTCOMES = {
    "one whose training diverges": OutcomeStatus.DIVERGED,
    "one that traps": OutcomeStatus.BUILDER_REFUSED,
    "one that answers garbage": OutcomeStatus.BUILDER_REFUSED,
    "one beyond the envelope": OutcomeStatus.BUILDER_REFUSED,
    "a recipe that is none": OutcomeStatus.BUILDER_REFUSED,
}


@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_the_trace_does_not_depend_on_what_the_builder_does(usual: View, run: Run, kind: str) -> None:
    view = run(digits(), builders.BUILDERS[kind]())
    assert difference(usual, view) is None
    assert view.outcome.status is OUTCOMES.get(kind, OutcomeStatus.TRAINED)


def test_the_trace_depends_on_the_spec(usual: View, run: Run) -> None:
    """The comparison can fail: one exchange more is seen at once."""
    assert difference(usual, run(digits(), builders.orderly(), exchanges=4)) is not None
