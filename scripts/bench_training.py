#!/usr/bin/env python3
"""How fast does Chiron train? Next to plain onnxruntime-training and to PyTorch, on the same graph.

    python scripts/bench_training.py --model vgg9 --json

Systems, in images (examples) a second over one epoch at the same batch size, AdamW:

    plain_onnxruntime   A  onnxruntime-training's Module and Optimizer, one thread, no Chiron
    chiron_1            B  one trainer: sandboxed builder, engine in a process of its own, decryption,
                           parameter server over mutual TLS, sealed reports; one thread
    in_process_1           the same with the engine in the trainer's process: what the process apart costs
    chiron_2            C  two trainers of one thread each, which share each batch
    torch_eager         D  PyTorch, as many threads as cores; idle ones sleep, as spinning (--torch-spins)
                           makes it many times slower wherever another process wants a core
    torch_compile       E  the same through torch.compile, with --compile, where it works

Each turn is made of processes of its own, and the systems take turns, so that a busy machine slows all; a
figure is the median over `--repeats` turns, a ratio the median of the turns' ratios. torch is no dependency
of ours: `--torch-python` names an interpreter that has it (default: this one, with the extra `[bench]`).
The last line of `--json` is one JSON object a model.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from scripts.benchmarks.turns import Peer, certificates, chiron_turn, ours, single_turn  # noqa: E402

MODELS = ("vgg9", "resnet20", "mlp", "transformer")
EXAMPLES = {"vgg9": 1024, "resnet20": 2048, "mlp": 131_072, "transformer": 2048}


def measure(arguments: argparse.Namespace, model: str, directory: Path) -> dict[str, Any]:
    """All figures of one model."""
    certificates(directory)
    examples = max(arguments.batch, int(EXAMPLES[model] * arguments.scale))
    options = {
        "directory": str(directory),
        "model": model,
        "batch": arguments.batch,
        "examples": examples,
        "exchanges": arguments.exchanges,
    }
    with ExitStack() as stack:
        parameters = Peer(stack, ours("prepare"), options).hear()["parameters"]
    torch = [arguments.torch_python, str(HERE / "benchmarks" / "torch_peer.py")]
    wait = "ACTIVE" if arguments.torch_spins else "PASSIVE"
    cores = {"threads": os.cpu_count(), "compiled": False}
    systems: dict[str, Callable[[], dict[str, Any]]] = {
        "plain_onnxruntime": lambda: single_turn(ours("plain"), {**options, "threads": 1}),
        "chiron_1": lambda: chiron_turn(options, 1),
        "in_process_1": lambda: chiron_turn({**options, "in_process": True}, 1),
        "chiron_2": lambda: chiron_turn(options, 2),
        "torch_eager": lambda: single_turn(torch, {**options, **cores}, OMP_WAIT_POLICY=wait),
    }
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for number in range(arguments.repeats):
        for name, turn in systems.items():
            turns[name].append(turn())
            rate = turns[name][-1]["examples"] / turns[name][-1]["seconds"]
            print(f"{model} turn {number + 1}: {name:18} {rate:10.1f} /s", file=sys.stderr, flush=True)
    result = summary(turns)
    if arguments.compile:
        result["torch_compile"] = compiled_rate(examples, torch, {**options, **cores, "compiled": True})
    return {"model": model, "parameters": parameters, "batch": arguments.batch, **result}


def summary(turns: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of the turns, and of their ratios."""
    rates = {name: [float(t["examples"] / t["seconds"]) for t in taken] for name, taken in turns.items()}
    cpu = {name: [float(t["cpu_seconds"] / t["examples"]) for t in taken] for name, taken in turns.items()}

    def ratio(ours: str, theirs: str) -> float:
        pairs = zip(rates[ours], rates[theirs], strict=True)
        return round(statistics.median(mine / other for mine, other in pairs), 3)

    return {
        **{name: round(statistics.median(found), 1) for name, found in rates.items()},
        "chiron_1_over_plain": ratio("chiron_1", "plain_onnxruntime"),
        "chiron_1_over_in_process": ratio("chiron_1", "in_process_1"),
        "chiron_2_over_torch": ratio("chiron_2", "torch_eager"),
        "cpu_ms_per_example": {name: round(statistics.median(f) * 1e3, 3) for name, f in cpu.items()},
        "peak_mib": {name: round(max(t["peak_mib"] for t in taken)) for name, taken in turns.items()},
        "load_average": round(os.getloadavg()[1], 1),
    }


def compiled_rate(examples: int, torch: list[str], options: dict[str, Any]) -> float | None:
    """E, or None where torch.compile does not work (it wants a C++ compiler)."""
    try:
        return round(examples / float(single_turn(torch, options)["seconds"]), 1)
    except RuntimeError:
        return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast Chiron trains, next to others.")
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--batch", type=int, default=64, help="examples of an optimizer step")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each system")
    parser.add_argument("--exchanges", type=int, default=5, help="of the epoch: the first warms up")
    parser.add_argument("--scale", type=float, default=1.0, help="longer or shorter turns")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has torch")
    parser.add_argument("--torch-spins", action="store_true", help="let PyTorch's idle threads spin")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--json", action="store_true", help="one JSON object a model")
    arguments = parser.parse_args()
    for model in MODELS if arguments.model == "all" else [arguments.model]:
        with tempfile.TemporaryDirectory() as directory:
            result = measure(arguments, model, Path(directory))
        if arguments.json:
            print(json.dumps(result), flush=True)
        else:
            for name, value in result.items():
                print(f"{name:22} {value}")


if __name__ == "__main__":
    main()
