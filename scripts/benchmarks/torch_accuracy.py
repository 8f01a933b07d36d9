"""PyTorch's part of bench_accuracy.py: the same graph, initial values and recipe, trained plainly."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch_graph import TorchGraph, optimizer  # type: ignore[import-not-found]  # beside this file


def main() -> None:
    """Train by the recipe (AdamW, warm-up, cosine), and say the accuracy on the held-out rows."""
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)  # sums in the same order on any machine
    directory = Path(options["directory"])
    graph = TorchGraph(directory)
    recipe, adapt = graph.recipe, optimizer(graph)
    generator = torch.Generator().manual_seed(options["seed"])
    batch = recipe["batch_size"]
    per_epoch = math.ceil(len(graph.x) / batch)
    steps = recipe["epochs"] * per_epoch
    warmup = round(recipe["warmup"] * steps)
    peak = recipe["optimizer"]["learning_rate"]
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(graph.x), generator=generator).tensor_split(per_epoch)
        progress = (step - warmup) / max(steps - warmup, 1)
        factor = (step + 1) / (warmup + 1) if step < warmup else (1 + math.cos(math.pi * progress)) / 2
        for group in adapt.param_groups:
            group["lr"] = peak * factor
        rows = order[step % per_epoch]
        adapt.zero_grad()
        functional.cross_entropy(graph(graph.x[rows], training=True), graph.y[rows]).backward()
        adapt.step()
    held = np.load(directory / "held-out.npz")
    with torch.no_grad():
        scores = graph(torch.from_numpy(held["x"]), training=False)
    accuracy = (scores.argmax(dim=1).numpy() == held["y"]).mean()
    print(json.dumps({"accuracy": float(accuracy)}), flush=True)


if __name__ == "__main__":
    main()
