"""A job on disk, as its parties see it: encrypted chunks, the builder's component, the public spec.

Also the same graph for PyTorch, which runs in an environment of its own that has nothing of ours.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from chiron.builder_kit.chiron_builder import Plan as Drawn
from chiron.builder_kit.component import static_component
from chiron.runtime.datasets import ChunkForm, DatasetWriter, EncryptedDataset, Examples
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import initial_values
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wire.contract import Envelope, InputType, Task
from chiron.wire.exchange import ExchangeSpec
from chiron.wire.jobs import JobSpec

KEY = bytes(range(32))
"""Of benchmark data, which is no secret."""


def make_job(
    directory: Path,
    drawn: Drawn,
    x: NDArray[Any],
    y: NDArray[np.int64],
    *,
    classes: int,
    chunk: int,
    trainers: Sequence[int],
    **terms: Any,
) -> None:
    """Write component, chunks, and one spec for each number of trainers; `terms` are the spec's."""
    (directory / "builder.wasm").write_bytes(static_component(drawn.graph, drawn.recipe.encode()))
    form = ChunkForm(Task.CLASSIFICATION, x.shape[1:], InputType(str(x.dtype)), (), classes, chunk)
    writer = DatasetWriter(form, "ab" * 16, KEY)
    for number, at in enumerate(range(0, len(x), chunk)):
        part = Examples(x[at : at + chunk], y[at : at + chunk])
        (directory / f"chunk-{number}").write_bytes(writer.seal(part, last=at + chunk >= len(x)))
    exchanges, parameters = terms.pop("exchanges"), terms.pop("parameters")
    for count in trainers:
        spec = JobSpec(
            job="cd" * 16,
            dataset=writer.manifest(),
            builder_sha256="0" * 64,
            envelope=Envelope(max_parameters=parameters, max_steps=10_000_000),
            exchange=ExchangeSpec(parameters=parameters, trainers=count, exchanges=exchanges),
            **terms,
        )
        (directory / f"spec-{count}.json").write_text(spec.model_dump_json())


def read_spec(directory: Path, trainers: int) -> JobSpec:
    """The spec of the job with so many trainers."""
    return JobSpec.model_validate_json((directory / f"spec-{trainers}.json").read_bytes())


def open_dataset(directory: Path, spec: JobSpec) -> EncryptedDataset:
    """The dataset, fetched from disk."""

    async def fetch(number: int) -> bytes:
        return (directory / f"chunk-{number}").read_bytes()

    return EncryptedDataset(spec.dataset, KEY, fetch)


def write_for_torch(directory: Path, drawn: Drawn, spec: JobSpec, x: NDArray[Any], y: NDArray[Any]) -> None:
    """The graph as JSON, its constants and the very initial values that trainer 0 makes, and the examples."""
    admitted, recipe = admitted_plan(drawn, spec)
    layout = FlatLayout(admitted.parameters)
    vector = initial_values(admitted, layout, Seeds(spec.seed, recipe.seed, 0))
    parameters = {f"p:{name}": view for name, view in layout.views(vector).items()}
    constants = {f"c:{t.name}": numpy_helper.to_array(t) for t in admitted.forward.graph.initializer}
    arrays: dict[str, Any] = {"x": x, "y": y, **parameters, **constants}
    np.savez(directory / "torch.npz", **arrays)
    trained = [parameter.name for parameter in admitted.parameters if parameter.trainable]
    described = {
        "nodes": _nodes(admitted.forward),
        "trained": trained,
        "recipe": json.loads(recipe.model_dump_json()),
    }
    (directory / "torch.json").write_text(json.dumps(described))


def _nodes(model: ModelProto) -> list[dict[str, Any]]:
    return [
        {
            "op": node.op_type,
            "inputs": list(node.input),
            "outputs": list(node.output),
            "attributes": {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute},
        }
        for node in model.graph.node
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, int | float) else list(value)


def admitted_plan(drawn: Drawn, spec: JobSpec) -> tuple[AdmittedGraph, Recipe]:
    """The plan as an engine admits it."""
    return admit(drawn.graph, spec.build_request(), spec.envelope), parse_recipe(drawn.recipe.encode())
