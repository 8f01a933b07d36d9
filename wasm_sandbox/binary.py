"""WebAssembly binaries: how they begin, their LEB128 numbers and their sections.

    binary  = preamble (8 bytes) | section…
    section = kind (1 byte) | size (LEB128) | content

A component is made of sections as a module is. Protobuf writes the same numbers and calls them varints.

Source: https://webassembly.github.io/spec/core/binary/ and component-model, Binary.md.
"""

from collections.abc import Iterator
from typing import NamedTuple

from chiron.wasm_sandbox.errors import BinaryMalformed

CORE_MODULE = b"\0asm\x01\0\0\0"
COMPONENT = b"\0asm\x0d\0\x01\0"
PREAMBLE_BYTES = 8
CUSTOM, MODULE = 0, 1
"""Kinds of sections: a custom one; in a component, a core module."""
_LEB128_BYTES = 5
"""The longest unsigned 32-bit number."""


class Section(NamedTuple):
    """One section: its kind, and where its content begins and ends."""

    kind: int
    start: int
    end: int


def encode_leb128(number: int) -> bytes:
    """The shortest LEB128 of a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def read_leb128(data: bytes, position: int, end: int, *, longest: int = _LEB128_BYTES) -> tuple[int, int]:
    """The number at `position`, and where it ends.

    Raises:
        BinaryMalformed: it goes on at `end`, or after `longest` bytes.
    """
    value = 0
    for index, byte in enumerate(data[position : min(position + longest, end)]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise BinaryMalformed("a number does not end")


def encode_section(kind: int, content: bytes) -> bytes:
    """A section with this content."""
    return bytes([kind]) + encode_leb128(len(content)) + content


def read_sections(binary: bytes) -> Iterator[Section]:
    """The sections of a module or component, in order; nothing inside of them is looked at.

    Raises:
        BinaryMalformed: a section's size does not end, or it runs past the end.
    """
    position = PREAMBLE_BYTES
    while position < len(binary):
        size, start = read_leb128(binary, position + 1, len(binary))
        if size > len(binary) - start:
            raise BinaryMalformed("a section runs past the end")
        yield Section(binary[position], start, start + size)
        position = start + size


def encode_custom_section(name: bytes, content: bytes) -> bytes:
    """A custom section: its name with its length, and then the content."""
    return encode_section(CUSTOM, encode_leb128(len(name)) + name + content)


def read_custom_sections(binary: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name of each custom section, and where its content begins and ends.

    Raises:
        BinaryMalformed: as `read_sections`, or a name runs past its section's end.
    """
    for kind, start, end in read_sections(binary):
        if kind == CUSTOM:
            length, name = read_leb128(binary, start, end)
            if length > end - name:
                raise BinaryMalformed("a section's name runs past its end")
            yield binary[name : name + length], name + length, end
