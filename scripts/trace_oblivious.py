"""Whether strict graphs use the same pages for any data: `tests/oblivious`, over as many graphs as you like.

    python scripts/trace_oblivious.py --graphs 200
    python scripts/trace_oblivious.py --graphs 50 --first 1000 --json

The graphs are the example builders', those written by hand, and as many drawn at random; a step, a
validation and a prediction of each are traced with each of its inputs, by a Valgrind tool. Exit code 1 where
one differs.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.oblivious import cases
from tests.oblivious.subject import PHASES, Case
from tests.oblivious.tracing import differing, traced
from tests.support import page_trace

TOGETHER = 20
"""Graphs that one process traces."""


def main() -> int:
    """Trace, and say what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=50, help="to draw at random (default: 50)")
    parser.add_argument("--first", type=int, default=0, help="seed before the first of them")
    parser.add_argument("--json", action="store_true", help="one object at the end")
    options = parser.parse_args()
    if not page_trace.available():
        print("this needs Valgrind with its headers, and a C compiler", file=sys.stderr)
        return 2
    found: dict[str, list[tuple[str, int]]] = {}
    for part in _parts(options.graphs, options.first):
        found |= _differences(part)
        print(f"{len(found)} graphs, {sum(map(bool, found.values()))} differ", file=sys.stderr)
    differ = {name: places for name, places in found.items() if places}
    if options.json:
        print(json.dumps({"graphs": len(found), "phases": PHASES, "differ": differ}))
    for name, places in differ.items() if not options.json else ():
        print(f"{name}: {', '.join(f'{phase} of input {number}' for phase, number in places)}")
    return 1 if differ else 0


def _parts(graphs: int, first: int) -> Iterator[list[Case]]:
    every = iter([*cases.examples_of_builders(), *cases.by_hand()])
    for source in (every, cases.drawn(graphs, first)):
        while part := list(islice(source, TOGETHER)):
            yield part


def _differences(part: Sequence[Case]) -> dict[str, list[tuple[str, int]]]:
    with TemporaryDirectory(prefix="chiron-") as directory:
        page_trace.build(Path(directory))
        return {name: differing(trace) for name, trace in traced(Path(directory), part).items()}


if __name__ == "__main__":
    sys.exit(main())
