"""A scan of a model's protobuf bytes before a parser sees them: fields counted, and held to those allowed.

A parser makes an object of every two bytes (an empty node), so the fields are counted first. Only fields
that builders may use are known here. Without graphs in attributes and without composed types no message
of ONNX contains itself, so nesting ends by itself and the scan needs no stack bound.

Source: protobuf encoding, https://protobuf.dev/programming-guides/encoding/; field numbers from `onnx`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx

from chiron.wasm_sandbox.binary import read_leb128
from chiron.wasm_sandbox.errors import BinaryMalformed
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES = 10

_REFUSED = {
    "ModelProto.functions": GraphCode.FUNCTION_NOT_ALLOWED,
    "ModelProto.configuration": GraphCode.FEATURE_NOT_ALLOWED,
    "GraphProto.sparse_initializer": GraphCode.SPARSE_NOT_ALLOWED,
    "GraphProto.quantization_annotation": GraphCode.FEATURE_NOT_ALLOWED,
    "NodeProto.device_configurations": GraphCode.FEATURE_NOT_ALLOWED,
    "NodeProto.overload": GraphCode.FUNCTION_NOT_ALLOWED,
    "AttributeProto.g": GraphCode.CONTROL_FLOW_NOT_ALLOWED,
    "AttributeProto.graphs": GraphCode.CONTROL_FLOW_NOT_ALLOWED,
    "AttributeProto.ref_attr_name": GraphCode.FUNCTION_NOT_ALLOWED,
    "AttributeProto.sparse_tensor": GraphCode.SPARSE_NOT_ALLOWED,
    "AttributeProto.sparse_tensors": GraphCode.SPARSE_NOT_ALLOWED,
    "AttributeProto.strings": GraphCode.ATTRIBUTE_NOT_ALLOWED,
    "AttributeProto.tensors": GraphCode.ATTRIBUTE_NOT_ALLOWED,
    "AttributeProto.tp": GraphCode.ATTRIBUTE_NOT_ALLOWED,
    "AttributeProto.type_protos": GraphCode.ATTRIBUTE_NOT_ALLOWED,
    "TensorProto.external_data": GraphCode.EXTERNAL_DATA_NOT_ALLOWED,
    "TensorProto.segment": GraphCode.EXTERNAL_DATA_NOT_ALLOWED,
    "TensorProto.string_data": GraphCode.STRING_NOT_ALLOWED,
    "TypeProto.sequence_type": GraphCode.TYPE_NOT_ALLOWED,
    "TypeProto.map_type": GraphCode.TYPE_NOT_ALLOWED,
    "TypeProto.optional_type": GraphCode.TYPE_NOT_ALLOWED,
    "TypeProto.sparse_tensor_type": GraphCode.SPARSE_NOT_ALLOWED,
    "TypeProto.opaque_type": GraphCode.TYPE_NOT_ALLOWED,
    "TrainingInfoProto.algorithm": GraphCode.FEATURE_NOT_ALLOWED,
    "TrainingInfoProto.update_binding": GraphCode.FEATURE_NOT_ALLOWED,
}
_FREE_TEXT = frozenset({"doc_string", "producer_name", "producer_version", "value"})


@dataclass(frozen=True, slots=True)
class _Field:
    wire: int
    packable: bool
    message: Any
    name: bool
    text: bool
    refused: GraphCode | None


@cache
def _layout(message: Any) -> dict[int, _Field]:
    """Field number to what may stand there, of a message's descriptor."""
    return {field.number: _field(message.name, field) for field in message.fields}


def _field(message: str, field: Any) -> _Field:
    if field.type in (field.TYPE_MESSAGE, field.TYPE_STRING, field.TYPE_BYTES):
        wire = _LENGTH
    else:
        wire = {field.TYPE_FLOAT: _FIXED32, field.TYPE_DOUBLE: _FIXED64}.get(field.type, _VARINT)
    return _Field(
        wire=wire,
        packable=wire != _LENGTH,
        message=field.message_type,
        name=field.type == field.TYPE_STRING and field.name not in _FREE_TEXT,
        text=field.type == field.TYPE_STRING,
        refused=_REFUSED.get(f"{message}.{field.name}"),
    )


def scan(data: bytes, limits: GraphLimits) -> None:
    """Hold the bytes to the fields of ONNX that builders may use, and count them.

    Raises:
        GraphRefused: graph-malformed, graph-too-complex, name-invalid, or the code of a refused feature.
    """
    count = 0
    pending = [(0, len(data), onnx.ModelProto.DESCRIPTOR)]
    while pending:
        position, end, message = pending.pop()
        layout = _layout(message)
        while position < end:
            count += 1
            if count > limits.fields:
                raise refused(GraphCode.GRAPH_TOO_COMPLEX)
            tag, position = _varint(data, position, end)
            field = layout.get(tag >> 3)
            if field is None:
                raise refused(GraphCode.GRAPH_MALFORMED, f"unknown field {tag >> 3} in {message.name}")
            if field.refused is not None:
                raise refused(field.refused, f"field {tag >> 3} of {message.name}")
            start, position = _payload(data, position, end, tag & 7, field)
            if field.message is not None:
                pending.append((start, position, field.message))
            elif field.name:
                _check_name(data[start:position], limits)
            elif field.text:
                _check_text(data[start:position])


def _payload(data: bytes, position: int, end: int, wire: int, field: _Field) -> tuple[int, int]:
    """Begin and end of a field's content."""
    if wire != field.wire and not (wire == _LENGTH and field.packable):
        raise refused(GraphCode.GRAPH_MALFORMED, "a field of another wire type")
    if wire == _VARINT:
        return position, _varint(data, position, end)[1]
    length = _WIDTH.get(wire, 0)
    if wire == _LENGTH:
        length, position = _varint(data, position, end)
    if length > end - position:
        raise refused(GraphCode.GRAPH_MALFORMED, "a field runs past the end")
    return position, position + length


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    try:
        return read_leb128(data, position, end, longest=_VARINT_BYTES)
    except BinaryMalformed as error:
        raise refused(GraphCode.GRAPH_MALFORMED, str(error)) from None


def _check_name(name: bytes, limits: GraphLimits) -> None:
    if len(name) > limits.name_bytes or any(not 0x20 <= byte < 0x7F for byte in name):
        raise refused(GraphCode.NAME_INVALID)


def _check_text(text: bytes) -> None:
    """A parser takes any bytes for text, and fails only where somebody reads it."""
    try:
        text.decode()
    except UnicodeDecodeError:
        raise refused(GraphCode.GRAPH_MALFORMED, "text that is not UTF-8") from None
