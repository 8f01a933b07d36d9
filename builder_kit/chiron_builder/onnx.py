"""ONNX messages, as bytes: as much of them as a builder needs.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from .protobuf import blob, integer, integers, single, text

IR_VERSION = 10
OPSET = 17

Attribute = int | float | str | Sequence[int]


class ElementType(IntEnum):
    """TensorProto.DataType."""

    FLOAT32 = 1
    UINT8 = 2
    INT64 = 7
    BOOL = 9


@dataclass(frozen=True)
class Data:
    """A constant: its shape, and its elements in row-major order, little-endian."""

    type: ElementType
    shape: tuple[int, ...]
    raw: bytes


def floats(values: Iterable[float], shape: Sequence[int] | None = None) -> Data:
    """A float32 constant; one dimension unless a shape is given."""
    listed = list(values)
    return Data(
        ElementType.FLOAT32,
        (len(listed),) if shape is None else tuple(shape),
        struct.pack(f"<{len(listed)}f", *listed),
    )


def int64s(values: Iterable[int], shape: Sequence[int] | None = None) -> Data:
    """An int64 constant; one dimension unless a shape is given."""
    listed = list(values)
    return Data(
        ElementType.INT64,
        (len(listed),) if shape is None else tuple(shape),
        struct.pack(f"<{len(listed)}q", *listed),
    )


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute) -> bytes:
    """NodeProto."""
    return b"".join(
        (
            *(text(1, name) for name in inputs),
            *(text(2, name) for name in outputs),
            text(4, operator),
            *(blob(5, attribute(name, value)) for name, value in attributes.items()),
        )
    )


def attribute(name: str, value: Attribute) -> bytes:
    """AttributeProto of a number, a text, or a list of integers."""
    if isinstance(value, float):
        return text(1, name) + single(2, value) + integer(20, 1)
    if isinstance(value, int):
        return text(1, name) + integer(3, value) + integer(20, 2)
    if isinstance(value, str):
        return text(1, name) + text(4, value) + integer(20, 3)
    return text(1, name) + integers(8, value) + integer(20, 7)


def tensor(name: str, data: Data) -> bytes:
    """TensorProto with data: a constant."""
    return integers(1, data.shape) + integer(2, data.type) + text(8, name) + blob(9, data.raw)


def parameter(name: str, shape: Sequence[int], properties: Mapping[str, str]) -> bytes:
    """TensorProto without data: what training fills in."""
    entries = (blob(16, text(1, key) + text(2, value)) for key, value in properties.items())
    return integers(1, shape) + integer(2, ElementType.FLOAT32) + text(8, name) + b"".join(entries)


def value(name: str, element: ElementType, shape: Sequence[int | str]) -> bytes:
    """ValueInfoProto; a dimension is a number or a symbol."""
    dims = (blob(1, text(2, dim) if isinstance(dim, str) else integer(1, dim)) for dim in shape)
    return text(1, name) + blob(2, blob(1, integer(1, element) + blob(2, b"".join(dims))))


def graph(
    name: str,
    nodes: Iterable[bytes],
    initializers: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
) -> bytes:
    """GraphProto."""
    return b"".join(
        (
            *(blob(1, part) for part in nodes),
            text(2, name),
            *(blob(5, part) for part in initializers),
            *(blob(11, part) for part in inputs),
            *(blob(12, part) for part in outputs),
        )
    )


def model(forward: bytes, initialization: bytes, bindings: Mapping[str, str]) -> bytes:
    """ModelProto with one TrainingInfoProto; `bindings` maps a parameter to its initial value's name."""
    entries = (blob(3, text(1, key) + text(2, name)) for key, name in bindings.items())
    training = blob(1, initialization) + b"".join(entries)
    operators = text(1, "") + integer(2, OPSET)
    return b"".join(
        (
            integer(1, IR_VERSION),
            text(2, "chiron_builder"),
            blob(7, forward),
            blob(8, operators),
            blob(20, training),
        )
    )
