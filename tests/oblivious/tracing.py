"""Cases' traces, and what differs in them."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.oblivious.subject import PHASES, Case
from tests.support import page_trace

PAGES = 0
"""The first of a trace's fields."""


def traced(folder: Path, cases: Sequence[Case]) -> dict[str, NDArray[np.uint64]]:
    """Traces [inputs, phases, 5] by name. All in one process: to start it takes longer than to trace.

    Args:
        folder: where `page_trace.build` has put the tool.
    """
    given, results = folder / "cases.pickle", folder / "traces.pickle"
    given.write_bytes(pickle.dumps(list(cases)))
    page_trace.run(folder, "tests.oblivious.subject", str(given), str(results))
    found = pickle.loads(results.read_bytes())  # noqa: S301 - of our own process
    return {case.name: trace for case, trace in zip(cases, found, strict=True)}


def differing(trace: NDArray[np.uint64]) -> list[tuple[str, int]]:
    """Phases and inputs whose pages are not those of the first input."""
    unequal = trace[:, :, PAGES] != trace[0, :, PAGES]
    return [(PHASES[phase], int(number)) for number, phase in np.argwhere(unequal)]
