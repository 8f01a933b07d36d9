#!/usr/bin/env python3
"""How the cost of training grows: time a step and memory against parameters, batch and trainers.

    python scripts/bench_growth.py --picture docs/growth.svg --json

A perceptron of two equal hidden layers. Parameters and batch: one trainer's learner alone, processor time a
step. Trainers: whole jobs (`bench_training.py`'s), processor time of all trainers an example. The last line
of `--json` is one JSON object with the points of each curve.
"""

import argparse
import json
import math
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from scripts.benchmarks.turns import Peer, certificates, chiron_turn, ours  # noqa: E402

PARAMETERS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000)
BATCHES = (8, 16, 32, 64, 128, 256, 512)
TRAINERS = (1, 2, 4)
USUAL = {"parameters": 1_000_000, "batch": 64, "steps": 20}
WIDTH, HEIGHT, MARGIN = 320, 240, 48


def learner_point(**changed: int) -> dict[str, Any]:
    """One measurement of a learner alone."""
    command = [sys.executable, "-m", "scripts.benchmarks.growth_peer"]
    with ExitStack() as stack:
        return Peer(stack, command, {**USUAL, **changed}).hear()


def trainers_points(examples: int) -> list[dict[str, Any]]:
    """Jobs of the tabular model with 1, 2 and 4 trainers."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        certificates(Path(directory))
        options = {
            "directory": directory, "model": "mlp", "batch": 64, "examples": examples, "exchanges": 5,
            "counts": TRAINERS,
        }  # fmt: skip
        Peer(stack, ours("prepare"), options).hear()
        points = []
        for count in TRAINERS:
            turn = chiron_turn(options, count)
            cpu = turn["cpu_seconds"] / turn["examples"] * 1e3
            points.append({"trainers": count, "cpu_ms_per_example": cpu, "peak_mib": turn["peak_mib"]})
        return points


def chart(left: int, title: str, points: list[tuple[float, float]], unit: str) -> str:
    """One line chart with logarithmic axes, as SVG."""
    xs, ys = [[math.log10(point[axis]) for point in points] for axis in (0, 1)]
    low, high = min(ys) - 0.15, max(ys) + 0.15

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1) * (WIDTH - 2 * MARGIN)
        up = (y - low) / (high - low) * (HEIGHT - 2 * MARGIN)
        return left + MARGIN + across, HEIGHT - MARGIN - up

    spots = [place(x, y) for x, y in zip(xs, ys, strict=True)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2563eb"/>'
        f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{value:.3g}</text>'
        f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{_short(given)}</text>'
        for (x, y), (given, value) in zip(spots, points, strict=True)
    )
    middle = left + WIDTH / 2
    return (
        f'<text x="{middle}" y="18" text-anchor="middle" font-weight="bold">{title}</text>'
        f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle" fill="#666">{unit}</text>'
        f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="1.5"/>{marks}'
    )


def _short(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def picture(curves: dict[str, list[dict[str, Any]]]) -> str:
    """Five charts beside each other."""
    charts = [
        ("ms a step", "parameters", "cpu_ms_per_step"),
        ("peak MiB", "parameters", "peak_mib"),
        ("ms a step", "batch", "cpu_ms_per_step"),
        ("peak MiB", "batch", "peak_mib"),
        ("ms an example, all trainers", "trainers", "cpu_ms_per_example"),
    ]
    drawn = "".join(
        chart(number * WIDTH, title, [(p[axis], p[value]) for p in curves[axis]], axis)
        for number, (title, axis, value) in enumerate(charts)
    )
    size = f'width="{len(charts) * WIDTH}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11"'
    sheet = f'<rect {size} fill="white"/>{drawn}'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{sheet}</svg>\n'


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description="How the cost of training grows.")
    parser.add_argument("--picture", type=Path, help="where to write the curves as SVG")
    parser.add_argument("--examples", type=int, default=32_768, help="of the jobs with several trainers")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    curves = {
        "parameters": [learner_point(parameters=count) for count in PARAMETERS],
        "batch": [learner_point(batch=size) for size in BATCHES],
        "trainers": trainers_points(arguments.examples),
    }
    if arguments.picture:
        arguments.picture.write_text(picture(curves))
    print(json.dumps(curves) if arguments.json else json.dumps(curves, indent=2))


if __name__ == "__main__":
    main()
