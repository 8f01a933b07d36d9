"""`oblivious: strict` by its trace: what a host sees that takes pages away and gives each back at its fault.

A step, a validation and a prediction use the same pages in the same order for any data of one shape, zeros,
denormals, infinities and NaN among it; instructions' pages as well as data's.
"""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from chiron.wire.contract import Oblivious
from tests.oblivious import cases
from tests.oblivious.subject import PHASES
from tests.oblivious.tracing import differing, traced
from tests.support import page_trace

pytestmark = pytest.mark.skipif(not page_trace.available(), reason="needs Valgrind and a C compiler")
DRAWN = 10
LEAST = 20


class Traces(NamedTuple):
    """Traces [inputs, phases, 5] by name."""

    strict: dict[str, NDArray[np.uint64]]
    clamped: dict[str, NDArray[np.uint64]]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    folder = tmp_path_factory.mktemp("traces")
    page_trace.build(folder)
    strict = [*cases.examples_of_builders(), *cases.by_hand(), *cases.drawn(DRAWN)]
    clamped = [cases.words(Oblivious.CLAMPED), cases.pools(Oblivious.CLAMPED)]
    found = traced(folder, [*strict, *clamped])
    names = [case.name for case in strict]
    return Traces({name: found[name] for name in names}, {case.name: found[case.name] for case in clamped})


def test_no_graph_s_pages_depend_on_its_data(traces: Traces) -> None:
    assert len(traces.strict) >= LEAST
    assert {name: found for name, trace in traces.strict.items() if (found := differing(trace))} == {}


def test_all_of_a_run_is_traced(traces: Traces) -> None:
    for trace in traces.strict.values():
        assert (trace[:, :, 3:] > 10_000).all(), "instructions and accesses"


def test_words_of_a_table_that_are_looked_up_are_seen(traces: Traces) -> None:
    """A form with addresses from data differs, so the trace would show it."""
    found = differing(traces.clamped["words, clamped"])
    assert {phase for phase, _ in found} == set(PHASES)
    assert 1 not in {number for _, number in found}, "the same data have the same trace"


def test_where_a_pool_s_largest_was_is_seen(traces: Traces) -> None:
    found = differing(traces.clamped["pools, clamped"])
    assert {phase for phase, _ in found} == {"step"}
    assert 1 not in {number for _, number in found}
