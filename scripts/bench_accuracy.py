#!/usr/bin/env python3
"""Does Chiron train as well as PyTorch? The same graph, initial values and recipe, on real data.

    python scripts/bench_accuracy.py --json

For every task and seed: Chiron with 1, 2 and 4 trainers (real processes: sandboxed builder, encrypted data,
parameter server over mutual TLS, exported model), and PyTorch without any of it. Accuracy is on held-out
rows. torch is no dependency of ours: `--torch-python` names an interpreter that has it. The CIFAR-10 subset
is read from ../shared/data and left out where that is absent. With `--keep FILE` every accuracy is written
down as soon as it is there, and what the file has already is not trained again. The last line of `--json` is
one JSON object: `accuracies` by task, seed and system, `means`, `behind_torch` (by the worst of 1, 2 and 4
trainers) and `within_one_point`.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from scripts.benchmarks.tasks import CIFAR, TASKS  # noqa: E402
from scripts.benchmarks.turns import Peer, certificates, chiron_turn, module  # noqa: E402

TRAINERS = (1, 2, 4)
SYSTEMS = {"torch", *(f"chiron_{count}" for count in TRAINERS)}
POINT = 0.01

Results = dict[str, dict[str, dict[str, float]]]
"""Accuracy by task, seed and system."""


def ask(command: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """What a process says."""
    with ExitStack() as stack:
        return Peer(stack, command, options).hear()


def accuracies(task: str, seed: int, torch_python: str, found: dict[str, float]) -> Iterator[None]:
    """Train every system that `found` has no accuracy of, once; pauses after each."""
    if not SYSTEMS - found.keys():
        return
    with tempfile.TemporaryDirectory() as directory:
        certificates(Path(directory))
        options = {"directory": directory, "task": task, "seed": seed, "counts": TRAINERS}
        ask(module("accuracy_peers", "prepare"), options)
        for count in TRAINERS:
            if f"chiron_{count}" not in found:
                chiron_turn({**options, "keep": True}, count)
                told = ask(module("accuracy_peers", "score"), {**options, "trainers": count})
                found[f"chiron_{count}"] = told["accuracy"]
                yield
        if "torch" not in found:
            torch = [torch_python, str(HERE / "benchmarks" / "torch_accuracy.py")]
            found["torch"] = ask(torch, options)["accuracy"]
            yield


def summary(results: Results) -> dict[str, Any]:
    """Means over seeds by task and system, and the greatest distance of ours from PyTorch's."""
    means = {
        task: {
            system: round(statistics.fmean(seed[system] for seed in seeds.values()), 4)
            for system in next(iter(seeds.values()))
        }
        for task, seeds in results.items()
    }
    behind = {
        task: round(max(found["torch"] - found[f"chiron_{count}"] for count in TRAINERS), 4)
        for task, found in means.items()
    }
    within = all(distance <= POINT for distance in behind.values())
    return {"accuracies": results, "means": means, "behind_torch": behind, "within_one_point": within}


def main() -> None:
    """Train everything and print."""
    parser = argparse.ArgumentParser(description="How well Chiron trains, next to PyTorch.")
    parser.add_argument("--task", choices=[*TASKS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has torch")
    parser.add_argument("--keep", type=Path, help="a JSON file of accuracies to go on from and add to")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    tasks = list(TASKS) if arguments.task == "all" else [arguments.task]
    if not CIFAR.exists():
        tasks = [task for task in tasks if task != "cifar10-subset"]
    keep: Path | None = arguments.keep
    kept: Results = json.loads(keep.read_text()) if keep and keep.exists() else {}
    results: Results = {}
    for task in tasks:
        for seed in range(1, arguments.seeds + 1):
            found = kept.setdefault(task, {}).setdefault(str(seed), {})
            for _ in accuracies(task, seed, arguments.torch_python, found):
                if keep:
                    keep.write_text(json.dumps(kept, indent=2) + "\n")
            results.setdefault(task, {})[str(seed)] = found
            print(f"{task} seed {seed}: {found}", file=sys.stderr, flush=True)
    result = summary(results)
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
