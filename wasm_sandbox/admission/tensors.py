"""Initializers and constants: which are parameters, and that data fits the shape it claims."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, numpy_helper

from chiron.wasm_sandbox.admission.operators import ALLOWED_TYPES
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

_DATA_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_ITEM_BYTES: Mapping[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.UINT8: 1,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.BOOL: 1,
}
_TYPED_FIELD: Mapping[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.UINT8: "int32_data",
    TensorProto.INT32: "int32_data",
    TensorProto.BOOL: "int32_data",
    TensorProto.INT64: "int64_data",
}


@dataclass(frozen=True)
class Tensors:
    """The graph's initializers: parameters, and constants."""

    parameters: tuple[TensorProto, ...]
    """float32, dims without data, sorted by name."""
    constants: tuple[TensorProto, ...]


ASSET_KEY = "chiron.asset"
"""Metadata of a parameter that begins as a pretrained tensor; the value is `file/tensor`."""


def asset_of(tensor: TensorProto) -> str | None:
    """The pretrained tensor that a parameter asks for; raises feature-not-allowed for other metadata."""
    entries = {entry.key: entry.value for entry in tensor.metadata_props}
    if len(tensor.metadata_props) > 1 or entries.keys() - {ASSET_KEY}:
        raise refused(GraphCode.FEATURE_NOT_ALLOWED, f"metadata of {tensor.name}")
    return entries.get(ASSET_KEY)


def item_bytes(data_type: int) -> int:
    """Bytes of one element of an allowed type; raises type-not-allowed."""
    if data_type not in ALLOWED_TYPES:
        code = GraphCode.STRING_NOT_ALLOWED if data_type == TensorProto.STRING else GraphCode.TYPE_NOT_ALLOWED
        raise refused(code, f"element type {data_type}")
    return _ITEM_BYTES[data_type]


def count_elements(dims: Sequence[int], limits: GraphLimits, most: int) -> int:
    """Product of dims, each in range; Python integers do not overflow. Raises shape-overflow."""
    if len(dims) > limits.rank or any(not 1 <= dim <= limits.dimension for dim in dims):
        raise refused(GraphCode.SHAPE_OVERFLOW, f"dims {list(dims)[:9]}")
    elements = math.prod(dims)
    if elements > most:
        raise refused(GraphCode.SHAPE_OVERFLOW, f"dims {list(dims)} have {elements} elements")
    return elements


def read_initializers(initializers: Iterable[TensorProto], limits: GraphLimits, parameters: int) -> Tensors:
    """Tell parameters from constants; `parameters` is the most elements that they may have together.

    Raises:
        GraphRefused: constant-invalid, constant-too-large, parameter-invalid, parameters-exceed-envelope,
            parameters-missing, type-not-allowed, string-not-allowed, external-data-not-allowed,
            shape-overflow.
    """
    trained: list[TensorProto] = []
    constants: list[TensorProto] = []
    for tensor in initializers:
        (constants if has_data(tensor) else trained).append(tensor)
    check_constants(constants, limits)
    total = 0
    for tensor in trained:
        item_bytes(tensor.data_type)
        if tensor.data_type != TensorProto.FLOAT:
            raise refused(GraphCode.PARAMETER_INVALID, f"{tensor.name} is not float32")
        total += count_elements(tensor.dims, limits, 2**31)
    if total > parameters:
        raise refused(GraphCode.PARAMETERS_EXCEED_ENVELOPE, f"{total} elements, {parameters} allowed")
    if not trained:
        raise refused(GraphCode.PARAMETERS_MISSING)
    return Tensors(tuple(sorted(trained, key=lambda tensor: tensor.name)), tuple(constants))


def has_data(tensor: TensorProto) -> bool:
    """True for a constant. A tensor elsewhere is refused with external-data-not-allowed."""
    if tensor.data_location != TensorProto.DEFAULT or len(tensor.external_data):
        raise refused(GraphCode.EXTERNAL_DATA_NOT_ALLOWED, tensor.name)
    return any(len(getattr(tensor, name)) for name in _DATA_FIELDS)


def check_constants(constants: Iterable[TensorProto], limits: GraphLimits) -> None:
    """Each has exactly the data of its type and shape, and all together are small."""
    total = 0
    for tensor in constants:
        size = item_bytes(tensor.data_type)
        elements = count_elements(tensor.dims, limits, 2**31)
        total += elements
        if total > limits.constant_elements:
            raise refused(GraphCode.CONSTANT_TOO_LARGE, tensor.name)
        _check_data(tensor, elements, size)


def _check_data(tensor: TensorProto, elements: int, size: int) -> None:
    present = [name for name in _DATA_FIELDS if len(getattr(tensor, name))]
    if len(present) != 1:
        raise refused(GraphCode.CONSTANT_INVALID, f"{tensor.name} has no data, or has it twice")
    if present == ["raw_data"]:
        fits = len(tensor.raw_data) == elements * size
    else:
        fits = present == [_TYPED_FIELD[tensor.data_type]] and len(getattr(tensor, present[0])) == elements
    if not fits:
        raise refused(GraphCode.CONSTANT_INVALID, f"{tensor.name} has data of another size or type")
    if tensor.data_type == TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
        raise refused(GraphCode.CONSTANT_INVALID, f"{tensor.name} is not finite")
