"""The bytes of protobuf messages, in plain Python.

This is compiled into components and stands alone: `varint` cannot share `chiron.wasm_sandbox.binary`.
A message is the concatenation of its fields; each function makes the bytes of one field.
Source: https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Iterable

_VARINT, _LENGTH, _FIXED32 = 0, 2, 5


def varint(number: int) -> bytes:
    """A number; negative ones as 64-bit two's complement."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def integer(field: int, number: int) -> bytes:
    """An int32, int64, enum or bool field."""
    return varint(field << 3 | _VARINT) + varint(number)


def single(field: int, number: float) -> bytes:
    """A float field."""
    return varint(field << 3 | _FIXED32) + struct.pack("<f", number)


def blob(field: int, content: bytes) -> bytes:
    """A bytes field, or a message as a field."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


def text(field: int, content: str) -> bytes:
    """A string field."""
    return blob(field, content.encode())


def integers(field: int, numbers: Iterable[int]) -> bytes:
    """A repeated integer field, packed; nothing for no number."""
    packed = b"".join(varint(number) for number in numbers)
    return blob(field, packed) if packed else b""
