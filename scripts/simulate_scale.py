#!/usr/bin/env python3
"""How long does an exchange take with 1 to 1,000 trainers over 1 to 64 shards? A simulation.

    python scripts/simulate_scale.py --measure     measure this machine's constants and check the simulation
    python scripts/simulate_scale.py               simulate with the constants of docs/scaling.json
    python scripts/simulate_scale.py --plot docs/scaling.svg

The model: every trainer and every shard has a machine of its own. A trainer computes (log-normal time,
seeded), prepares its change, and sends a slice to each shard at once. A shard is one event loop: it takes
slices in the order they arrive, each for its CPU time or its time on the wire, whichever is longer; when all
are there it merges; then it sends as many answers. The exchange is over when the slowest trainer has its
last slice.

The constants are CPU times of real exchanges (scripts/bench_ps.py), fitted over vector lengths and numbers of
clients. On the machine that measures, everybody shares the cores: there an exchange takes
max(server, (server + clients) / cores). That is checked in settings that were not fitted, as wall time, which
other work on the machine spoils, and as CPU time, which it hardly does.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench_ps import certificates, turn  # noqa: E402

CONSTANTS = ROOT / "docs" / "scaling.json"
TRAINERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
SHARDS = (1, 4, 16, 64)
MEASURED = ((100_000, 1), (100_000, 4), (1_000_000, 1), (1_000_000, 2), (1_000_000, 4), (4_000_000, 2))
CHECKED = ((1_000_000, 3), (1_000_000, 8), (2_000_000, 2), (2_000_000, 4))
"""Not among the fitted settings."""


@dataclass(frozen=True)
class Constants:
    """Seconds of CPU, fitted."""

    server_per_client: float
    """A request's fixed part."""
    server_per_element_client: float
    """Receiving, checking and sending one float32, and its share of the merge."""
    server_per_element: float
    """The outer step."""
    client_fixed: float
    client_per_element: float
    """Preparing, sending and receiving one float32."""

    def server(self, elements: float, clients: int) -> float:
        """CPU seconds of one shard's exchange of `elements` with `clients`."""
        per_client = self.server_per_client + self.server_per_element_client * elements
        return clients * per_client + self.server_per_element * elements

    def client(self, elements: float, shards: int = 1) -> float:
        """CPU seconds of one client's exchange over `shards`."""
        return self.client_fixed * shards + self.client_per_element * elements


@dataclass(frozen=True)
class Setting:
    """What is simulated."""

    parameters: int
    trainers: int
    shards: int
    compute_s: float
    spread: float
    """Sigma of the log of the compute time."""
    gigabit: float
    latency_s: float


def fit(measured: list[dict[str, float]]) -> Constants:
    """Non-negative least squares over measured CPU times, relative errors weighted alike."""
    rows = [[m["clients"], m["clients"] * m["elements"], m["elements"]] for m in measured]
    server = _solve(rows, [m["server_cpu_ms"] / 1000 for m in measured])
    client = _solve([[1.0, m["elements"]] for m in measured], [m["client_cpu_ms"] / 1000 for m in measured])
    return Constants(*server, *client)


def _solve(rows: list[list[float]], values: list[float]) -> list[float]:
    from scipy.optimize import nnls

    weights = 1 / np.asarray(values)
    solution, _ = nnls(np.asarray(rows) * weights[:, None], np.ones(len(values)))
    return [float(value) for value in solution]


def exchange_seconds(constants: Constants, setting: Setting, generator: np.random.Generator) -> float:
    """One simulated exchange: seconds beyond the median trainer's computing."""
    slice_elements = setting.parameters / setting.shards
    wire = slice_elements * 4 * 8 / (setting.gigabit * 1e9)
    half_client = constants.client(setting.parameters, setting.shards) / 2
    client_wire = setting.parameters * 4 * 8 / (setting.gigabit * 1e9)
    one_way = max(half_client, client_wire) + setting.latency_s
    compute = setting.compute_s * generator.lognormal(0.0, setting.spread, setting.trainers)
    arrivals = np.sort(compute + one_way)
    per_client = constants.server_per_client + constants.server_per_element_client * slice_elements
    service = max(per_client / 2, wire)
    free = 0.0
    for arrival in arrivals:
        # A slice is worked on while it arrives: an idle shard is done when its last byte is there.
        free = max(free + service, arrival)
    merged = free + constants.server_per_element * slice_elements
    answered = merged + setting.trainers * service
    return float(max(answered, merged + one_way) + setting.latency_s - setting.compute_s)


def simulate(constants: Constants, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """The mean over seeded rounds of every setting."""
    results = []
    for shards in SHARDS:
        for trainers in TRAINERS:
            setting = Setting(
                arguments.parameters,
                trainers,
                shards,
                arguments.compute_s,
                arguments.spread,
                arguments.gigabit,
                arguments.latency_ms / 1000,
            )
            generator = np.random.default_rng([arguments.seed, shards, trainers])
            rounds = [exchange_seconds(constants, setting, generator) for _ in range(arguments.rounds)]
            results.append({"shards": shards, "trainers": trainers, "seconds": statistics.mean(rounds)})
    return results


def knee(results: list[dict[str, float]], shards: int, compute_s: float) -> int:
    """The most trainers simulated whose exchange costs at most a tenth of the computing between two."""
    cheap = [r["trainers"] for r in results if r["shards"] == shards and r["seconds"] <= compute_s / 10]
    return int(max(cheap, default=0))


def measure(seed: int) -> dict[str, Any]:
    """Real exchanges: what the constants are fitted to, and what they are checked against."""
    with tempfile.TemporaryDirectory() as directory:
        certificates(Path(directory), 8)
        measured = [_real(elements, clients, directory) for elements, clients in MEASURED]
        constants = fit(measured)
        checks = []
        for elements, clients in CHECKED:
            real = _real(elements, clients, directory)
            server, client = constants.server(elements, clients), constants.client(elements)
            cores = os.cpu_count() or 1
            predicted = max(server, (server + clients * client) / cores) * 1000
            cpu = (server + clients * client) * 1000
            real_cpu = real["server_cpu_ms"] + clients * real["client_cpu_ms"]
            checks.append({**real, "predicted_ms": predicted, "predicted_cpu_ms": cpu, "cpu_ms": real_cpu})
    return {"seed": seed, "constants": asdict(constants), "measured": measured, "checks": checks}


def _real(elements: int, clients: int, directory: str) -> dict[str, float]:
    rounds = 5
    spec = {"parameters": elements, "trainers": clients, "exchanges": rounds + 1, "outer_momentum": 0.9}
    result = turn("exchange", {"spec": spec, "directory": directory}, clients, rounds)
    kept = {name: round(result[name], 2) for name in ("ms", "server_cpu_ms", "client_cpu_ms")}
    return {"elements": elements, "clients": clients, **kept}


def plot(results: list[dict[str, float]], parameters: int, path: Path) -> None:
    """Seconds over trainers, one line for each number of shards."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for shards in SHARDS:
        line = [result for result in results if result["shards"] == shards]
        axes.loglog(
            [result["trainers"] for result in line],
            [result["seconds"] for result in line],
            marker="o",
            label=f"{shards} shard{'s' if shards > 1 else ''}",
        )
    axes.set_xlabel("trainers")
    axes.set_ylabel("seconds of an exchange, beyond the median trainer's computing")
    axes.set_title(f"{parameters / 1e6:.0f} million float32 parameters (simulated)")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def report(constants: Constants, arguments: argparse.Namespace, stored: dict[str, Any]) -> None:
    """Tables in Markdown, or one JSON object."""
    results = simulate(constants, arguments)
    knees = {n: knee(results, n, arguments.compute_s) for n in SHARDS}
    if arguments.plot:
        plot(results, arguments.parameters, arguments.plot)
    if arguments.json:
        print(json.dumps({"results": results, "knee": knees, "checks": stored["checks"]}))
        return
    print("| elements | clients | real ms | predicted ms | real CPU ms | predicted CPU ms |")
    print("|---|---|---|---|---|---|")
    for check in stored["checks"]:
        cells = (check[k] for k in ("ms", "predicted_ms", "cpu_ms", "predicted_cpu_ms"))
        print(f"| {check['elements']:,} | {check['clients']} |", " | ".join(f"{c:.0f}" for c in cells), "|")
    print("\n| trainers |", " | ".join(f"{n} shards" for n in SHARDS), "|")
    print("|---|" + "---|" * len(SHARDS))
    for trainers in TRAINERS:
        line = {result["shards"]: result["seconds"] for result in results if result["trainers"] == trainers}
        print(f"| {trainers} |", " | ".join(f"{line[n]:.2f} s" for n in SHARDS), "|")
    print("| at most 10 % |", " | ".join(str(knees[n]) for n in SHARDS), "|")


def main() -> None:
    """Measure, simulate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the constants anew (minutes)")
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--compute-s", type=float, default=10.0, help="median time between exchanges")
    parser.add_argument("--spread", type=float, default=0.02, help="sigma of its logarithm")
    parser.add_argument("--gigabit", type=float, default=10.0, help="bandwidth of every machine")
    parser.add_argument("--latency-ms", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG (needs the extra [bench])")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.measure:
        CONSTANTS.write_text(json.dumps(measure(arguments.seed), indent=1) + "\n")
    stored = json.loads(CONSTANTS.read_text())
    report(Constants(**stored["constants"]), arguments, stored)


if __name__ == "__main__":
    main()
