"""One measurement of bench_growth.py: a learner alone in a process; JSON options, JSON out."""

import asyncio
import json
import math
import resource
import sys
import time
from typing import Any

import numpy as np

from chiron.builder_kit.chiron_builder import Graph, Request, dense, logits, relu
from chiron.runtime.datasets import ChunkForm, DatasetWriter, EncryptedDataset, Examples
from chiron.runtime.training.learner import Learner
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.recipe import parse_recipe
from chiron.wire.contract import Envelope, InputType, Task
from chiron.wire.exchange import ExchangeSpec
from chiron.wire.jobs import JobSpec

INPUTS, CLASSES, KEY = 256, 10, bytes(32)


def width_of(parameters: int) -> int:
    """Width w of two hidden layers, so that 256 w + w² + 10 w is about `parameters`."""
    return max(8, round((-266 + math.sqrt(266**2 + 4 * parameters)) / 2))


async def measure(options: dict[str, Any]) -> dict[str, float]:
    """Milliseconds a step and peak memory, of `steps` steps after as many to warm up."""
    steps, batch, width = options["steps"], options["batch"], width_of(options["parameters"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * batch, INPUTS)).astype(np.float32)
    form = ChunkForm(Task.CLASSIFICATION, (INPUTS,), InputType.FLOAT32, (), CLASSES, len(x))
    writer = DatasetWriter(form, "ab" * 16, KEY)
    sealed = writer.seal(Examples(x, rng.integers(0, CLASSES, len(x))), last=True)
    graph = Graph(Request("classification", (INPUTS,), "float32", (), CLASSES, 10**8))
    plan = graph.plan(logits(relu(dense(relu(dense(graph.input, width)), width))), epochs=2, batch_size=batch)
    spec = JobSpec(
        job="cd" * 16,
        dataset=writer.manifest(),
        builder_sha256="0" * 64,
        envelope=Envelope(max_parameters=graph.parameters, max_steps=10**6),
        exchange=ExchangeSpec(parameters=graph.parameters, trainers=1, exchanges=3),
        seed=1,
        validation_percent=0,
    )

    async def fetch(_number: int) -> bytes:
        return sealed

    admitted = admit(plan.graph, spec.build_request(), spec.envelope)
    learner = Learner(admitted, parse_recipe(plan.recipe.encode()), spec, index=0, trial=0)
    learner.initial()
    dataset = EncryptedDataset(spec.dataset, KEY, fetch)
    rows = [examples async for examples in dataset.read(learner.due(0))]
    learner.train(iter(rows), 0, 3)
    began = time.process_time()
    learner.train(iter(()), 1, 3)
    taken = (time.process_time() - began) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"parameters": graph.parameters, "batch": batch, "cpu_ms_per_step": taken * 1e3, "peak_mib": peak}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(json.loads(sys.argv[1])))), flush=True)
