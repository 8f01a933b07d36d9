"""The training model: forward graph, loss and gradients as one ONNX model.

onnxruntime's gradient builder is used as it is; its optimizers and checkpoints are not, since the parameters
live in one flat vector of ours (`chiron.runtime.training.layout`). So nothing of `onnxruntime.training`,
whose import needs torch (onnxruntime issue 22070), is imported.

A Dropout's mask is an input of ours, seeded by the step. The engine's own Dropout keeps a generator from run
to run, which a resumed trainer could not restore.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes
from onnxruntime import SessionOptions
from onnxruntime.capi._pybind_state import GradientGraphBuilder, get_optimized_model

from chiron.runtime.training.errors import ENGINE_SILENT, Reason, TrainingFailed, failing_as
from chiron.runtime.training.graphs import OWN, forward_model, preprocess
from chiron.runtime.training.losses import LOSS, append_loss
from chiron.runtime.training.rewrites import (
    finish_strict,
    hold_within_bounds,
    rewrite,
    rewrite_forward,
    use_strict_forms,
)
from chiron.runtime.training.rewrites.editing import declare_shapes
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, matches
from chiron.wire.contract import BuildRequest, Oblivious

_NEW = OWN + "new"
_DEFAULT_RATIO = 0.5
"""The fraction that a Dropout drops unless it says otherwise."""


@dataclass(frozen=True)
class Mask:
    """The input [n, elements] that stands for a Dropout's random mask, and the fraction it drops."""

    name: str
    elements: int
    ratio: float

    def draw(self, rows: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """A fresh mask: 0 where a value is dropped, else the factor that keeps the expected value."""
        kept = generator.random((rows, self.elements), np.float32) >= self.ratio
        return kept * np.float32(1 / (1 - self.ratio))


@dataclass(frozen=True)
class TrainingModel:
    """A training model and the names by which it is used."""

    onnx: bytes
    gradients: dict[str, str]
    """Output with the gradient, by trained parameter."""
    statistics: dict[str, str]
    """Output with the new running statistic, by buffer."""
    masks: tuple[Mask, ...]


def trained_parameters(graph: AdmittedGraph, recipe: Recipe) -> list[str]:
    """Names of the parameters that learn: the trainable ones that the recipe does not freeze."""
    return [p.name for p in graph.parameters if p.trainable and not matches(p.name, recipe.frozen)]


def training_model(
    graph: AdmittedGraph,
    recipe: Recipe,
    request: BuildRequest,
    *,
    oblivious: Oblivious = Oblivious.CLAMPED,
    rewritten: bool = True,
) -> TrainingModel:
    """Build it, of a graph that is in the job's form (`chiron.runtime.training.forms`).

    Raises:
        TrainingFailed: graph-not-differentiable, nothing-to-train, preprocessing-unsupported,
            addresses-depend-on-data.
    """
    model = forward_model(graph)
    preprocess(model.graph, recipe)
    statistics = _train_batch_norms(model)
    _keep_layer_norm_statistics(model)
    masks = _replace_dropouts(model)
    append_loss(model.graph, recipe.loss, request)
    strict = oblivious is Oblivious.STRICT
    if strict:
        declare_shapes(model)
        use_strict_forms(model)  # of the loss
    trained = trained_parameters(graph, recipe)
    if not trained:
        raise TrainingFailed(Reason.NOTHING_TO_TRAIN)
    if rewritten:
        rewrite_forward(model)
        declare_shapes(model)
    with failing_as(Reason.NOT_DIFFERENTIABLE):
        differentiated = _differentiate(model, set(trained))
    made = {output.name for output in differentiated.graph.output}
    gradients = {name: f"{name}_grad" for name in trained if f"{name}_grad" in made}
    if not gradients:
        raise TrainingFailed(Reason.NOTHING_TO_TRAIN)
    if rewritten:
        rewrite(differentiated)
    hold_within_bounds(differentiated)
    if strict:
        finish_strict(differentiated)
    return TrainingModel(differentiated.SerializeToString(), gradients, statistics, masks)


def _differentiate(model: ModelProto, trained: set[str]) -> ModelProto:
    options = SessionOptions()
    options.log_severity_level = ENGINE_SILENT
    optimized = get_optimized_model(model.SerializeToString(), trained, options)
    builder = GradientGraphBuilder(optimized, {LOSS}, trained, LOSS, options)
    builder.build()
    differentiated = ModelProto()
    differentiated.ParseFromString(builder.get_model())
    return differentiated


def _keep_layer_norm_statistics(model: ModelProto) -> None:
    """Name the mean and deviation that a LayerNormalization can give: its gradient takes them from there."""
    for number, node in enumerate(model.graph.node):
        if node.op_type == "LayerNormalization":
            named = [*node.output[:3], "", ""][:3]
            fresh = (node.output[0], f"{OWN}mean{number}", f"{OWN}deviation{number}")
            node.output[:] = [name or own for name, own in zip(named, fresh, strict=True)]


def _train_batch_norms(model: ModelProto) -> dict[str, str]:
    """Set training mode; the new running mean and variance, by the buffer that they replace."""
    shapes = {value.name: value for value in model.graph.input}
    statistics: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("training_mode", 1)])
        del node.output[1:]
        for buffer in node.input[3:5]:
            statistics[buffer] = buffer + _NEW
            node.output.append(buffer + _NEW)
            dims = [dim.dim_value for dim in shapes[buffer].type.tensor_type.shape.dim]
            model.graph.output.append(helper.make_tensor_value_info(buffer + _NEW, TensorProto.FLOAT, dims))
    return statistics


def _replace_dropouts(model: ModelProto) -> tuple[Mask, ...]:
    """Put a multiplication with a mask in every Dropout's place, in place of the model.

    Raises:
        TrainingFailed: graph-not-differentiable, where a ratio is not a constant below 1.
    """
    graph = model.graph
    if not any(node.op_type == "Dropout" for node in graph.node):
        return ()
    sizes = _elements_per_example(model)
    masks: list[Mask] = []
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "Dropout":
            nodes.append(_copy(node))
            continue
        value, output = node.input[0], node.output[0]
        mask = Mask(f"{OWN}mask{len(masks)}", sizes[value], _ratio(graph, node))
        masks.append(mask)
        graph.input.append(helper.make_tensor_value_info(mask.name, TensorProto.FLOAT, ["N", mask.elements]))
        shape, shaped = mask.name + "/shape", mask.name + "/shaped"
        nodes.append(helper.make_node("Shape", [value], [shape]))
        nodes.append(helper.make_node("Reshape", [mask.name, shape], [shaped]))
        nodes.append(helper.make_node("Mul", [value, shaped], [output]))
    del graph.node[:]
    graph.node.extend(nodes)
    return tuple(masks)


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _elements_per_example(model: ModelProto) -> dict[str, int]:
    """Elements of each value for a batch of one: admission holds sizes to be proportional to the batch."""
    single = ModelProto()
    single.CopyFrom(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    del single.graph.output[:]
    inferred = infer_shapes(single, data_prop=True).graph
    return {
        value.name: int(np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim]))
        for value in (*inferred.value_info, *inferred.input)
    }


def _ratio(graph: GraphProto, node: NodeProto) -> float:
    if len(node.input) < 2 or not node.input[1]:
        return _DEFAULT_RATIO
    known = {tensor.name: tensor for tensor in graph.initializer}
    for other in graph.node:
        for attribute in other.attribute if other.op_type == "Constant" else ():
            if attribute.type == AttributeProto.TENSOR:
                known[other.output[0]] = attribute.t
            elif attribute.type == AttributeProto.FLOAT:
                known[other.output[0]] = numpy_helper.from_array(np.asarray(attribute.f, np.float32))
    tensor = known.get(node.input[1])
    ratio = float(numpy_helper.to_array(tensor).reshape(-1)[0]) if tensor is not None else 1.0
    if not 0 <= ratio < 1:
        raise TrainingFailed(Reason.NOT_DIFFERENTIABLE)
    return ratio
