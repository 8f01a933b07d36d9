"""The training model: forward graph, loss and gradients as one ONNX model.

onnxruntime's gradient builder is used as it is; its optimizers and checkpoints are not, since the parameters
live in one flat vector of ours (`chiron.runtime.training.layout`). So nothing of `onnxruntime.training`,
whose import needs torch (onnxruntime issue 22070), is imported.
"""

from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper
from onnxruntime import SessionOptions
from onnxruntime.capi._pybind_state import GradientGraphBuilder, get_optimized_model

from chiron.runtime.training.dropout import Mask, replace_dropouts
from chiron.runtime.training.errors import ENGINE_SILENT, Reason, TrainingFailed, failing_as
from chiron.runtime.training.graphs import OWN, forward_model, preprocess
from chiron.runtime.training.losses import LOSS, append_loss
from chiron.runtime.training.rewrites import rewrite, rewrite_forward
from chiron.runtime.training.rewrites.editing import declare_shapes
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, matches
from chiron.wire.contract import BuildRequest

_NEW = OWN + "new"


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
    graph: AdmittedGraph, recipe: Recipe, request: BuildRequest, *, rewritten: bool = True
) -> TrainingModel:
    """Build it.

    Raises:
        TrainingFailed: graph-not-differentiable, nothing-to-train, preprocessing-unsupported.
    """
    model = forward_model(graph)
    preprocess(model.graph, recipe)
    statistics = _train_batch_norms(model)
    _keep_layer_norm_statistics(model)
    masks = replace_dropouts(model)
    append_loss(model.graph, recipe.loss, request)
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
