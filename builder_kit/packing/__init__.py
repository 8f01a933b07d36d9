"""`chiron builder pack`: an ONNX model that some other library exported becomes a static builder.

No tool chain is needed: the builder is a small module with the graph in its memory, which it answers
whatever it is asked. The model's weights are what training begins with (`Weights.KEEP`: they travel as a
pretrained asset of the component), or are drawn anew (`Weights.FRESH`).

    reading      one input, one output, a supported operator set
    classical    scikit-learn's linear models, which are not of ONNX's own operators, as products
    rewriting    what is admitted and trained in another form: pooling, dropout, normalisation, softmax
    parameters   which tensors are trained, and how they begin
"""

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path

from safetensors.numpy import save

from chiron.builder_kit.component import static_component
from chiron.builder_kit.errors import ModelUnsuitable
from chiron.builder_kit.packing.classical import without_classical_operators
from chiron.builder_kit.packing.parameters import ASSET, Parameters, as_parameters
from chiron.builder_kit.packing.reading import Interface, read_model, renamed_interface, take_bytes
from chiron.builder_kit.packing.rewriting import rewritten
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import attach_asset, read_assets
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.recipe import parse_recipe
from chiron.wire.contract import (
    MAX_COMPONENT_BYTES,
    BuilderManifest,
    BuildRequest,
    Envelope,
    ExampleForm,
    InputType,
    Task,
)

_ENVELOPE_ROOM = 1024
_MAX_PARAMETERS = 200_000_000


class Weights(StrEnum):
    """What training begins with."""

    KEEP = "keep"
    FRESH = "fresh"


@dataclass(frozen=True)
class Packed:
    """A static builder."""

    component: bytes
    manifest: BuilderManifest
    graph: bytes
    """What it answers; `plan.onnx` for Netron."""
    parameters: int
    """Elements."""


@dataclass(frozen=True)
class PackOptions:
    """How to make a static builder of a model."""

    task: Task = Task.CLASSIFICATION
    """What it is for. A classification's softmax at the end is taken off: the loss applies it."""
    weights: Weights = Weights.KEEP
    """What training begins with."""
    output: str | None = None
    """Which output is trained, where the model has several."""
    images: bool = False
    """Take uint8, 0 to 255, where the model takes float32 from 0 to 1."""


def pack(path: Path, name: str, recipe: bytes, options: PackOptions = PackOptions()) -> Packed:
    """Make a static builder of the model in a file.

    Args:
        path: an ONNX file; a trusted one, since it may name data files beside it.
        name: of the builder.
        recipe: how to train it, JSON.
        options: the rest.

    Raises:
        ModelUnsuitable: the model cannot be admitted; the message says why.
        PlanRefused: recipe-invalid.
    """
    parse_recipe(recipe)
    model = rewritten(without_classical_operators(read_model(path)), options.task, options.output)
    if options.images:
        take_bytes(model)
    interface = renamed_interface(model, options.task)
    parameters = as_parameters(model, keep=options.weights is Weights.KEEP)
    graph = model.SerializeToString(deterministic=True)
    component = static_component(graph, recipe)
    if parameters.values:
        component = attach_asset(component, ASSET, save(parameters.values))
    if len(component) > MAX_COMPONENT_BYTES:
        raise ModelUnsuitable(
            f"with its weights it has {len(component):,} bytes, {MAX_COMPONENT_BYTES:,} are allowed; fresh "
            "weights are not carried"
        )
    manifest = _manifest(name, interface, parameters, len(graph) + len(recipe))
    _admit(graph, component, interface, manifest.envelope)
    return Packed(component, manifest, graph, parameters.elements)


def _manifest(name: str, interface: Interface, parameters: Parameters, plan_bytes: int) -> BuilderManifest:
    """The envelope fits the model exactly: there will be no other."""
    if not 0 < parameters.elements <= _MAX_PARAMETERS:
        raise ModelUnsuitable(f"it has {parameters.elements:,} parameters")
    return BuilderManifest(
        name=name,
        version="1.0.0",
        description="Packed from an ONNX model.",
        tasks=frozenset({interface.task}),
        max_input_elements=prod(interface.input_shape),
        shapes=(
            ExampleForm(
                task=interface.task,
                input_shape=interface.input_shape,
                input_dtype=InputType(interface.input_type),
                target_shape=interface.target_shape,
                classes=interface.classes,
            ),
        ),
        envelope=Envelope(
            # The sealed model has to fit too: it has an activation and, by the recipe, preprocessing on top.
            max_parameters=parameters.elements,
            max_graph_bytes=plan_bytes + plan_bytes // 4 + _ENVELOPE_ROOM,
        ),
    )


def _admit(graph: bytes, component: bytes, interface: Interface, envelope: Envelope) -> None:
    """What the enclave will say, said now."""
    request = BuildRequest(
        task=interface.task,
        input_shape=interface.input_shape,
        input_dtype=InputType(interface.input_type),
        target_shape=interface.target_shape,
        classes=interface.classes,
        max_parameters=envelope.max_parameters,
    )
    try:
        admit(graph, request, envelope, assets=read_assets(component))
    except SandboxError as error:
        raise ModelUnsuitable(f"[{error.code}] {error}: {error.detail}") from error


__all__ = ["PackOptions", "Packed", "Weights", "pack"]
