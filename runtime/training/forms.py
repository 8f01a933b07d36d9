"""The form in which a job runs an admitted graph: indices held to their bounds, or none from data."""

from dataclasses import replace
from math import prod

from onnx import ModelProto
from onnx.shape_inference import infer_shapes

from chiron.runtime.training.graphs import forward_model
from chiron.runtime.training.rewrites import bound_indices, use_strict_forms
from chiron.runtime.training.rewrites.editing import declare_shapes
from chiron.wasm_sandbox.admission.tensors import item_bytes
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wire.contract import Oblivious

_BATCHES = (4, 11)


def in_form(graph: AdmittedGraph, oblivious: Oblivious) -> AdmittedGraph:
    """The graph in the job's form, with the memory that this form takes.

    Raises:
        TrainingFailed: addresses-depend-on-data, where strict is asked for and there is no such form.
    """
    model = forward_model(graph)
    declare_shapes(model)
    if oblivious is Oblivious.STRICT:
        use_strict_forms(model)
    bound_indices(model)
    del model.graph.value_info[:]
    more = [after - before for after, before in zip(_sizes(model), _sizes(forward_model(graph)), strict=True)]
    growth = (more[1] - more[0]) // (_BATCHES[1] - _BATCHES[0])
    parameters = {parameter.name for parameter in graph.parameters}
    inputs = [value for value in model.graph.input if value.name not in parameters]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return replace(
        graph,
        forward=model,
        activation_bytes_per_example=graph.activation_bytes_per_example + max(growth, 0),
        activation_bytes_fixed=graph.activation_bytes_fixed + max(more[0] - growth * _BATCHES[0], 0),
    )


def _sizes(model: ModelProto) -> list[int]:
    """Bytes of all values that nodes make, for each of `_BATCHES`."""
    return [_size(model, batch) for batch in _BATCHES]


def _size(model: ModelProto, batch: int) -> int:
    sized = ModelProto()
    sized.CopyFrom(model)
    del sized.graph.output[:]
    for value in sized.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = batch
    found = infer_shapes(sized, data_prop=True).graph.value_info
    return sum(
        prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        * item_bytes(value.type.tensor_type.elem_type)
        for value in found
    )
