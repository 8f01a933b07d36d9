"""Pretrained tensors that a builder carries: safetensors files in custom sections of its component.

So they are uploaded, identified by SHA-256 and bounded together with the component, and are read natively:
bulk bytes never cross the component boundary. The engine skips custom sections.

    custom section = 0x00 | size | name | one safetensors file      name = "chiron:asset/" ‖ the asset's name

Source: https://webassembly.github.io/spec/core/binary/modules.html#binary-customsec; components are made of
the same sections (component-model, Binary.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chiron.wasm_sandbox.errors import Code, failure

_PREFIX = b"chiron:asset/"
_HEAD_BYTES = 8
_CUSTOM = 0
_LEB_BYTES = 5
MAX_ASSETS = 64


def attach_asset(component: bytes, name: str, content: bytes) -> bytes:
    """The component with one more asset."""
    label = _PREFIX + name.encode()
    body = _leb(len(label)) + label + content
    return component + bytes([_CUSTOM]) + _leb(len(body)) + body


@dataclass(frozen=True)
class Assets:
    """The assets of a component, by name; nothing of them is parsed before a graph asks for it.

    `chiron.wasm_sandbox.admission.pretrained` reads their tensors.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)


def read_assets(component: bytes) -> Assets:
    """The assets of a component.

    Raises:
        ComponentRefused: component-malformed, where it is not a sequence of sections, or an asset is given
            twice or one too many.
    """
    files: dict[str, bytes] = {}
    for label, start, end in _custom_sections(component):
        if not label.startswith(_PREFIX):
            continue
        name = label[len(_PREFIX) :].decode("ascii", errors="replace")
        if name in files or len(files) == MAX_ASSETS:
            raise failure(Code.COMPONENT_MALFORMED, "an asset is given twice, or there are too many")
        files[name] = component[start:end]
    return Assets(files)


def _custom_sections(component: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Label, begin and end of each custom section's content."""
    position = _HEAD_BYTES
    while position < len(component):
        kind = component[position]
        size, position = _read_leb(component, position + 1)
        end = position + size
        if end > len(component):
            raise failure(Code.COMPONENT_MALFORMED, "a section runs past the end")
        if kind == _CUSTOM:
            length, start = _read_leb(component, position)
            if length > end - start:
                raise failure(Code.COMPONENT_MALFORMED, "a section's name runs past its end")
            yield component[start : start + length], start + length, end
        position = end


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _read_leb(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_LEB_BYTES):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position
    raise failure(Code.COMPONENT_MALFORMED, "a number does not end")
