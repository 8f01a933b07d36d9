"""Every value's shape, declared: what the engine itself infers loses the batch at a Reshape, and the gradient
builder then sums and reshapes gradients over axes that it finds out about in every step."""

from collections.abc import Mapping

from onnx import ModelProto, ValueInfoProto, helper
from onnx.shape_inference import infer_shapes

BATCH = "N"
_SIZES = (4, 11)
"""Batches to infer shapes for: two sizes of a dimension tell whether it is the batch."""

Dims = tuple[int, ...]


def declare_shapes(model: ModelProto) -> None:
    """Give every value between inputs and outputs its type and shape, with the batch by name, in place."""
    first, second = (_inferred(model, size) for size in _SIZES)
    del model.graph.value_info[:]
    for name, (element, dims) in first.items():
        other = second[name][1]
        if len(other) != len(dims):
            continue
        shape = [_dimension(*sizes) for sizes in zip(dims, other, strict=True)]
        model.graph.value_info.append(helper.make_tensor_value_info(name, element, shape))


def _dimension(first: int, second: int) -> int | str | None:
    if first == second:
        return first or None
    return BATCH if (first, second) == _SIZES else None


def _inferred(model: ModelProto, batch: int) -> Mapping[str, tuple[int, Dims]]:
    """Type and dimensions of every value that a node makes; 0 is one that is not known."""
    sized = ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    del sized.graph.output[:]
    for given in sized.graph.input:
        dims = given.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = batch
    values = infer_shapes(sized, data_prop=True).graph.value_info
    return {value.name: _described(value) for value in values if value.type.tensor_type.HasField("shape")}


def _described(value: ValueInfoProto) -> tuple[int, Dims]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)
