"""A small reader of DER (X.690, section 10), as strict as certificates need it: no byte of slack anywhere.

It exists so that a PCK certificate's SGX extension is read by two parsers that share no code.
"""

from collections.abc import Iterator
from typing import NamedTuple

BOOLEAN, INTEGER, OCTET_STRING, OBJECT_IDENTIFIER, ENUMERATED, SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30
"""Identifier octets of the types that are read here."""


class Value(NamedTuple):
    """One encoded value: its identifier octet and its content."""

    tag: int
    content: bytes

    def octets(self, length: int) -> bytes:
        """An octet string of this length; raises `ValueError` for anything else."""
        if self.tag != OCTET_STRING or len(self.content) != length:
            raise ValueError("not an octet string of that length")
        return self.content

    def number(self, largest: int, tag: int = INTEGER) -> int:
        """An integer (or enumerated value) from 0 to `largest`; raises `ValueError` for anything else."""
        shortest = len(self.content) == 1 or self.content[:1] != b"\0" or self.content[1:2] >= b"\x80"
        value = int.from_bytes(self.content, "big", signed=True)
        if self.tag != tag or not self.content or not shortest or not 0 <= value <= largest:
            raise ValueError("not an integer of that range")
        return value

    def flag(self) -> bool:
        """A truth value; raises `ValueError` for anything else."""
        if self.tag != BOOLEAN or self.content not in (b"\0", b"\xff"):
            raise ValueError("not a truth value")
        return self.content == b"\xff"

    def items(self) -> "list[Value]":
        """A sequence's items; raises `ValueError` for anything else."""
        if self.tag != SEQUENCE:
            raise ValueError("not a sequence")
        return list(_values(self.content))


def read(der: bytes) -> Value:
    """The one value that `der` holds.

    Raises:
        ValueError: it is cut off, not in its shortest form, or something follows it.
    """
    values = list(_values(der))
    if len(values) != 1:
        raise ValueError("not exactly one value")
    return values[0]


def _values(der: bytes) -> Iterator[Value]:
    place = 0
    while place < len(der):
        tag = der[place]
        if tag & 0x1F == 0x1F:
            raise ValueError("a tag of several bytes")
        length, start = _length(der, place + 1)
        place = start + length
        if place > len(der):
            raise ValueError("cut off")
        yield Value(tag, der[start:place])


def _length(der: bytes, place: int) -> tuple[int, int]:
    """The length that is written at `place`, and where the content begins."""
    first = der[place : place + 1]
    if first < b"\x80":
        if not first:
            raise ValueError("cut off")
        return first[0], place + 1
    count = first[0] & 0x7F
    written = der[place + 1 : place + 1 + count]
    length = int.from_bytes(written, "big")
    if not 1 <= count <= 2 or len(written) != count or length < (0x80 if count == 1 else 0x100):
        raise ValueError("a length that is too long, or not in its shortest form")
    return length, place + 1 + count
