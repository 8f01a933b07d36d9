"""`oblivious: strict` by its trace: what a host sees that takes pages away and gives each back at its fault.

A step, a validation and a prediction use the same pages in the same order for any data of one shape, zeros,
denormals, infinities and NaN among it; instructions' pages as well as data's.
"""

import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from chiron.wire.contract import Oblivious
from tests.oblivious import cases
from tests.oblivious.subject import PHASES, Case
from tests.support import page_trace

pytestmark = pytest.mark.skipif(not page_trace.available(), reason="needs Valgrind and a C compiler")
DRAWN = 10
PAGES = 0
"""The first of a trace's fields."""
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
    found = _traced(folder, [*strict, *clamped])
    names = [case.name for case in strict]
    return Traces({name: found[name] for name in names}, {case.name: found[case.name] for case in clamped})


def _traced(folder: Path, traced: list[Case]) -> dict[str, NDArray[np.uint64]]:
    """All in one process: to start it takes longer than to trace."""
    given, results = folder / "cases.pickle", folder / "traces.pickle"
    given.write_bytes(pickle.dumps(traced))
    page_trace.run(folder, "tests.oblivious.subject", str(given), str(results))
    found = pickle.loads(results.read_bytes())  # noqa: S301 - of our own process
    return {case.name: trace for case, trace in zip(traced, found, strict=True)}


def _differing(trace: NDArray[np.uint64]) -> list[tuple[str, int]]:
    """Phases and inputs whose pages are not those of the first input."""
    unequal = trace[:, :, PAGES] != trace[0, :, PAGES]
    return [(PHASES[phase], int(number)) for number, phase in np.argwhere(unequal)]


def test_no_graph_s_pages_depend_on_its_data(traces: Traces) -> None:
    assert len(traces.strict) >= LEAST
    assert {name: found for name, trace in traces.strict.items() if (found := _differing(trace))} == {}


def test_all_of_a_run_is_traced(traces: Traces) -> None:
    for trace in traces.strict.values():
        assert (trace[:, :, 3:] > 10_000).all(), "instructions and accesses"


def test_words_of_a_table_that_are_looked_up_are_seen(traces: Traces) -> None:
    """A form with addresses from data differs, so the trace would show it."""
    found = _differing(traces.clamped["words, clamped"])
    assert {phase for phase, _ in found} == set(PHASES)
    assert 1 not in {number for _, number in found}, "the same data have the same trace"


def test_where_a_pool_s_largest_was_is_seen(traces: Traces) -> None:
    found = _differing(traces.clamped["pools, clamped"])
    assert {phase for phase, _ in found} == {"step"}
    assert 1 not in {number for _, number in found}
