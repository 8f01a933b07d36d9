"""Values that shapes are made of: constants, sizes of other values, and what is picked or made of these.

Each has at most as many numbers as a value has dimensions. Every number is a constant, or a polynomial of
the batch whose coefficients are not negative: `growth` builds on that. So they are added and multiplied, and
never subtracted, divided or used as places; a shape that would need that is unknown.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from chiron.wasm_sandbox.limits import GraphLimits

Numbers: TypeAlias = NDArray[np.int64]
_WHOLE = frozenset({TensorProto.INT64, TensorProto.INT32})
_KEEPING = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output has the numbers of its first input."""
_LARGEST = 2**31
"""Beyond any size; products of two smaller ones fit in 64 bits."""


def known_numbers(constants: Mapping[str, TensorProto], limits: GraphLimits) -> dict[str, Numbers]:
    """The constants that may be part of a shape: whole numbers, as few as dimensions."""
    return {
        name: numpy_helper.to_array(tensor).astype(np.int64)
        for name, tensor in constants.items()
        if tensor.data_type in _WHOLE and len(tensor.dims) <= 1 and sum(tensor.dims) <= limits.rank
    }


def as_tensor(numbers: Numbers) -> TensorProto:
    """The numbers as native inference takes them."""
    return numpy_helper.from_array(numbers)


def sizes_of(node: NodeProto, dims: Sequence[int]) -> Numbers:
    """The numbers of a Shape node's output; `dims` is its input's shape."""
    return np.asarray(dims[slice(_attribute(node, "start"), _attribute(node, "end"))], np.int64)


def numbers_of(
    node: NodeProto,
    numbers: Mapping[str, Numbers],
    constants: Mapping[str, TensorProto],
    dims: Sequence[int],
    limits: GraphLimits,
) -> Numbers | None:
    """The numbers of the output, of shape `dims`, where they are made of earlier ones as is allowed.

    `constants` is everything that is known before the graph runs.
    """
    if len(dims) > 1 or sum(dims) > limits.rank or not node.input or node.input[0] not in numbers:
        return None
    operands = [numbers[name] for name in node.input if name in numbers]
    first, complete = operands[0], len(operands) == len(node.input)
    made: Numbers | None = None
    if node.op_type in _KEEPING or (node.op_type == "Cast" and _attribute(node, "to") in _WHOLE):
        made = first
    elif node.op_type == "Concat" and complete:
        made = np.concatenate(operands)
    elif node.op_type == "Gather" and node.input[1] in constants and first.ndim == 1:
        made = _gathered(first, constants[node.input[1]])
    elif node.op_type == "Slice":
        made = _sliced(first, node, constants)
    elif node.op_type in ("Add", "Mul") and complete:
        made = _combined(node.op_type, operands)
    return made.reshape(dims) if made is not None and made.size == np.prod(dims, dtype=np.int64) else None


def _attribute(node: NodeProto, name: str) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), None)


def _gathered(listed: Numbers, places: TensorProto) -> Numbers | None:
    chosen = numpy_helper.to_array(places).astype(np.int64).reshape(-1)
    if not np.all((-len(listed) <= chosen) & (chosen < len(listed))):
        return None
    return listed[chosen]


def _sliced(listed: Numbers, node: NodeProto, constants: Mapping[str, TensorProto]) -> Numbers | None:
    given = [constants[name] if name else None for name in node.input[1:]]
    start, end, _, step = [*_first(given), None, None][:4]
    return listed[slice(start, end, step)] if listed.ndim == 1 else None


def _first(tensors: Sequence[TensorProto | None]) -> list[int | None]:
    return [None if t is None else int(numpy_helper.to_array(t).reshape(-1)[0]) for t in tensors]


def _combined(op_type: str, operands: Sequence[Numbers]) -> Numbers | None:
    if any((numbers < 0).any() for numbers in operands):
        return None
    left, right = operands
    made = left + right if op_type == "Add" else left * right
    return made if (made < _LARGEST).all() else None
