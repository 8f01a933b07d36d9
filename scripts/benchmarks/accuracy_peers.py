"""Processes of bench_accuracy.py beside the job's own: role and JSON options as arguments, JSON lines out.

prepare   writes a task's job for one seed, its held-out rows, and the same for PyTorch
score     accuracy of an exported model on the held-out rows
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from chiron.runtime.training.sessions import ExportedModel
from chiron.wasm_sandbox.admission import admit
from chiron.wire.contract import BuildRequest, Envelope, InputType, Task
from scripts.benchmarks.job import make_job, read_spec, write_for_torch
from scripts.benchmarks.tasks import TASKS

CHUNKS = 24
"""So that 1, 2 and 4 trainers have equal parts."""


def prepare(options: dict[str, Any]) -> None:
    """Write the job."""
    directory, task = Path(options["directory"]), TASKS[options["task"]]
    data = task.data()
    drawn = task.plan(data, options["seed"])
    classes = int(data.y.max()) + 1
    request = BuildRequest(
        task=Task.CLASSIFICATION,
        input_shape=data.x.shape[1:],
        input_dtype=InputType(str(data.x.dtype)),
        classes=classes,
        max_parameters=10**7,
    )
    elements = admit(drawn.graph, request, Envelope(max_parameters=10**7)).elements
    terms = {"exchanges": task.exchanges, "seed": options["seed"], "validation_percent": 0}
    chunk = -(-len(data.x) // CHUNKS)
    counts = options["counts"]
    make_job(
        directory,
        drawn,
        data.x,
        data.y,
        classes=classes,
        chunk=chunk,
        trainers=counts,
        parameters=elements,
        **terms,
    )
    write_for_torch(directory, drawn, read_spec(directory, counts[0]), data.x, data.y)
    np.savez(directory / "held-out.npz", x=data.test_x, y=data.test_y)
    print(json.dumps({"examples": len(data.x), "held_out": len(data.test_x)}), flush=True)


def score(options: dict[str, Any]) -> None:
    """Say the accuracy."""
    directory = Path(options["directory"])
    held = np.load(directory / "held-out.npz")
    spec = read_spec(directory, options["trainers"])
    scores = ExportedModel((directory / "model.onnx").read_bytes(), spec).predict(held["x"])
    print(json.dumps({"accuracy": float((scores.argmax(axis=1) == held["y"]).mean())}), flush=True)


if __name__ == "__main__":
    {"prepare": prepare, "score": score}[sys.argv[1]](json.loads(sys.argv[2]))
