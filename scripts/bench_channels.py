"""How many bits of a job's data its host reads off each thing that it sees.

Real roles run jobs of one public spec, with builders that were written to tell what rows say: by time, by
diverging, by trapping. A host that notes all that it sees then reads what it can. Bits are counted as

    log, exit, counts, sizes    log2 of the number of jobs that a host can tell apart by them
    the three times             what a reader that is fitted on one half reads of the other half, over
                                what chance reads; and of each further slot where it may have been

The last line of `--json` is one object. The table is that of docs/traffic.md.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chiron.api.software_tee.tee import SoftwareTee
from chiron.runtime.pacing import bound_bits, told_bits
from tests.support.datasets import Arrays
from tests.support.taps import SIGNATURE_SLACK_BYTES, EnclaveTrace
from tests.traffic import clocks
from tests.traffic.world import View, host_in

QUERIES, JOB_S, TURNS = 16, 600, 6_000_000
CERTIFIED = ("/ready", "/peers/parameter-server")
"""Bodies with a fresh certificate, whose random integers vary by some bytes in DER."""
Job: TypeAlias = Callable[..., View]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=17, help="of each job")
    parser.add_argument("--unpaced", action="store_true", help="see what time tells without slots")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    with _world() as job:
        found = _measured(job, options.exchanges, {"unpaced": options.unpaced})
    bits = found["bits_per_job"]
    print(f"| what the host sees | bits a job of {options.exchanges} exchanges, one trainer |\n|---|---|")
    for name, told in bits.items():
        print(f"| {name.replace('_', ' ')} | {told:.1f} |")
    print(f"| *most that time can tell* | {found['time_most_bits']:.1f} |")
    print(f"| *bound on it* | {found['time_bound_bits']:.1f} |", flush=True)
    if options.json:
        print(json.dumps(found))
    return 0


@contextmanager
def _world() -> Iterator[Job]:
    with TemporaryDirectory(prefix="chiron-") as directory:
        tee = SoftwareTee.open(Path(directory, "tee"), datetime.now(UTC))
        count = 0

        def run(data: Arrays, component: bytes, queries: Sequence[NDArray[Any]] = (), **request: Any) -> View:
            nonlocal count
            count += 1
            own = Path(directory, str(count))
            own.mkdir()

            async def job() -> View:
                async with asyncio.timeout(JOB_S), host_in(own, tee) as host:
                    return await host.run(*data, component, queries, **request)

            return asyncio.run(job())

        yield run


def _measured(job: Job, exchanges: int, terms: dict[str, Any]) -> dict[str, Any]:
    request = {"trainers": 1, "exchanges": exchanges, "validation_percent": 0, "terms": terms}
    random = np.random.default_rng(1)
    slow = clocks.component(clocks.slow_where_rows_say(), epochs=1)
    secrets = [random.integers(0, clocks.LEVELS, exchanges - 1) for _ in range(2)]
    asked = random.permutation(np.arange(QUERIES) % 2)
    queries = [np.full((4, 2), 200.0 * one, np.float32) for one in asked]
    slowed = [job(clocks.rows_that_say(secret, 0), slow, queries, **request) for secret in secrets]
    calm = _calm(len(secrets[0]))
    diverging = clocks.component(clocks.diverging_on_one_row(), epochs=4)
    ended = [job(data, diverging, queries, **request) for data in (calm, _with_one_row(calm))]
    levels = np.repeat(np.arange(clocks.LEVELS), 2)
    short = request | {"exchanges": 4}
    builds = [job(calm, clocks.counting(int(level) * TURNS), **short) for level in levels]
    alike = [*slowed, *ended]
    spec = slowed[0].job.spec
    return {
        "bits_per_job": {
            "log": max(_apart(alike, _log), _apart(builds, _log)),
            "exit": max(_apart(alike, _exit), _apart(builds, _exit)),
            "counts": max(_apart(alike, _counts), _apart(builds, _counts)),
            "sizes": max(_apart(alike, _sizes), _apart(builds, _sizes)),
            "exchange_time": _read_off_exchanges(slowed, secrets) + max(map(_late, alike)),
            "builder_time": clocks.told_bits(
                clocks.read_off(np.array([clocks.builders_time(view) for view in builds]), levels), levels
            ),
            "answer_time": _read_off_answers(slowed, asked),
        },
        "time_most_bits": told_bits(spec),
        "time_bound_bits": bound_bits(spec),
    }


def _calm(batches: int) -> Arrays:
    x, y = clocks.rows_that_say(np.zeros(batches, np.int64), 0)
    return np.minimum(x, np.float32(1)), y


def _with_one_row(data: Arrays) -> Arrays:
    """The same, but for one number, which the builder watches for."""
    x, y = data[0].copy(), data[1]
    x[5, 0] = 5
    return x, y


def _read_off_exchanges(views: Sequence[View], secrets: Sequence[NDArray[np.int64]]) -> float:
    """Relative to each job's usual time, which was measured before any data was read."""
    times = [clocks.exchange_times(view)[: len(secrets[0]) - 1] for view in views]
    relative = np.concatenate([one / np.median(one) for one in times])
    secret = np.concatenate([one[1:] for one in secrets])
    return clocks.told_bits(clocks.read_off(relative, secret), secret) * (len(secrets[0]) - 1)


def _read_off_answers(views: Sequence[View], asked: NDArray[np.int64]) -> float:
    times = np.concatenate([clocks.answer_times(view)[-QUERIES:] for view in views])
    asked = np.tile(asked, len(views))
    return clocks.told_bits(clocks.read_off(times, asked), asked) * QUERIES


def _late(view: View) -> float:
    """What the further slots that a job took can have told."""
    report = view.outcome.metrics
    late = report.late_slots if report is not None else 0
    return math.log2(math.comb(view.job.spec.exchange.exchanges + late, late))


def _apart(views: Sequence[View], seen: Callable[[EnclaveTrace], Hashable]) -> float:
    """Bits by which jobs of one spec can be told apart, by what is seen of each of their enclaves."""
    kinds = {tuple((name, seen(trace)) for name, trace in sorted(view.enclaves.items())) for view in views}
    return math.log2(len(kinds))


def _log(trace: EnclaveTrace) -> Hashable:
    return tuple(trace.log_lines)


def _exit(trace: EnclaveTrace) -> Hashable:
    return trace.exit_code


def _counts(trace: EnclaveTrace) -> Hashable:
    """Requests in their order, without the empty polls, and connections."""
    calls = [(call.method, call.path, call.status) for call in trace.calls if "wait=" not in call.path]
    return tuple(calls), tuple((peer, len(each)) for peer, each in trace.connections.items())


def _sizes(trace: EnclaveTrace) -> Hashable:
    """Bodies both ways. Of a fresh certificate to within what its random integers vary by."""

    def of(size: int, path: str) -> int:
        return size // (64 * SIGNATURE_SLACK_BYTES) if path.endswith(CERTIFIED) else size

    return tuple(
        (of(call.sent, call.path), of(call.received, call.path))
        for call in trace.calls
        if "wait=" not in call.path
    )


if __name__ == "__main__":
    sys.exit(main())
