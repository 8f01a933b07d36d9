"""Pretrained tensors that a builder carries: safetensors files in custom sections of its component.

There they are uploaded, identified by SHA-256 and bounded together with the component, and are read natively:
bulk bytes never cross the component boundary. The engine skips custom sections.

    custom section = 0x00 | size | name | one safetensors file      name = "chiron:asset/" ‖ the asset's name

Source: https://webassembly.github.io/spec/core/binary/modules.html#binary-customsec.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chiron.wasm_sandbox.binary import encode_custom_section, read_custom_sections
from chiron.wasm_sandbox.errors import BinaryMalformed, Code, failure

_PREFIX = b"chiron:asset/"
MAX_ASSETS = 64


def attach_asset(component: bytes, name: str, content: bytes) -> bytes:
    """The component with one more asset."""
    return component + encode_custom_section(_PREFIX + name.encode(), content)


@dataclass(frozen=True)
class Assets:
    """The assets of a component, by name; nothing of them is parsed before a graph asks for it.

    `chiron.wasm_sandbox.admission.initialization` reads their tensors.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)


def read_assets(component: bytes) -> Assets:
    """The assets of a component.

    Raises:
        ComponentRefused: component-malformed, where it is not a sequence of sections, or an asset is given
            twice or one too many.
    """
    files: dict[str, bytes] = {}
    try:
        for label, start, end in read_custom_sections(component):
            if label.startswith(_PREFIX):
                name = label[len(_PREFIX) :].decode("ascii", errors="replace")
                if name in files or len(files) == MAX_ASSETS:
                    raise failure(Code.COMPONENT_MALFORMED, "an asset is given twice, or there are too many")
                files[name] = component[start:end]
    except BinaryMalformed as error:
        raise failure(Code.COMPONENT_MALFORMED, str(error)) from None
    return Assets(files)
