"""PyTorch's turn of bench_training.py: one epoch, batch by batch. Options are JSON; speaks JSON lines."""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional
from torch_graph import TorchGraph, optimizer  # type: ignore[import-not-found]  # beside this file


def main() -> None:
    """Say ready, wait for a line, train, say how long it took."""
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options["threads"])
    graph = TorchGraph(Path(options["directory"]))
    forward = torch.compile(graph.__call__, dynamic=False) if options["compiled"] else graph.__call__
    adapt, batch = optimizer(graph), options["batch"]

    def step(start: int) -> None:
        x, y = graph.x[start : start + batch], graph.y[start : start + batch]
        adapt.zero_grad()
        functional.cross_entropy(forward(x, training=True), y).backward()
        adapt.step()

    step(0)
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    began, used = time.perf_counter(), time.process_time()
    for start in range(0, len(graph.x), batch):
        step(start)
    taken = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**taken, "peak_mib": peak, "examples": len(graph.x)}), flush=True)


if __name__ == "__main__":
    main()
