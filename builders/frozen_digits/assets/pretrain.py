"""Makes `trunk.safetensors`: convolutions trained on the handwritten digits 0 to 4.

Run from the repository: `python builders/frozen_digits/assets/pretrain.py`.
"""

import asyncio
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from chiron.builder_kit.chiron_builder import Graph, Plan, Request, conv, logits, max_pool, relu
from chiron.builder_kit.component import static_component
from chiron.builder_kit.rehearsal import Scale, rehearse
from chiron.client.datasets.sources import ArraySource
from chiron.wire.contract import BuilderManifest, Envelope, Task

PARAMETERS = 20_000


def plan() -> Plan:
    """The trunk as `builder.py` draws it, but trained, and a linear layer for five classes."""
    graph = Graph(Request("classification", (1, 8, 8), classes=5, max_parameters=PARAMETERS))
    x = relu(conv(graph.input, 8, bias=False, name="trunk1"))
    x = max_pool(relu(conv(x, 16, bias=False, name="trunk2")))
    return graph.plan(logits(x), epochs=15, batch_size=32)


async def main() -> None:
    """Train, and keep the convolutions."""
    made = plan()
    component = static_component(made.graph, made.recipe.encode())
    manifest = BuilderManifest(
        name="trunk",
        version="1",
        tasks=frozenset({Task.CLASSIFICATION}),
        envelope=Envelope(max_parameters=PARAMETERS),
    )
    digits = load_digits(n_class=5)
    x = (digits.images / 16).astype(np.float32)[:, None]
    source = ArraySource(x, digits.target, class_names=[str(digit) for digit in range(5)])
    result = await rehearse(component, manifest, source, scale=Scale(steps=500))
    tensors = onnx.load_from_string(result.model).graph.initializer
    kept = {t.name: numpy_helper.to_array(t) for t in tensors if t.name.startswith("trunk")}
    save_file(kept, Path(__file__).with_name("trunk.safetensors"))
    print(f"{sorted(kept)}: accuracy {result.reports[-1].validation_accuracy}")


if __name__ == "__main__":
    asyncio.run(main())
