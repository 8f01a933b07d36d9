"""Whether a compiled component is a builder of our world; reads its types, runs none of its code."""

from collections.abc import Mapping
from typing import Any

from wasmtime.component import Component, ComponentInstanceType, FuncType
from wasmtime.component import _types as types

from chiron.wasm_sandbox.errors import Code, failure
from chiron.wasm_sandbox.signatures import (
    BUILD,
    CAPABILITIES,
    EXPORTS,
    REVISE,
    TYPES,
    interface_functions,
    interface_name,
    signature,
)

_CAPABILITY_OF = {interface_name(capability): capability for capability in CAPABILITIES}


def examine(component: Component, engine: Any) -> tuple[tuple[str, ...], bool]:
    """The capabilities it asks for, sorted, and whether it revises.

    Raises:
        ComponentRefused: it imports anything but our interfaces, or lacks `build`, or a type differs.
    """
    kind = component.type
    capabilities = _capabilities({name: extern.ty for name, extern in kind.imports(engine).items()}, engine)
    exports = {name: extern.ty for name, extern in kind.exports(engine).items() if name in EXPORTS}
    if BUILD not in exports:
        raise failure(Code.COMPONENT_EXPORT_MISSING)
    for name, item in exports.items():
        if not isinstance(item, FuncType) or signature(item) != EXPORTS[name]:
            raise failure(Code.COMPONENT_TYPE_MISMATCH, f"export {name}")
    return capabilities, REVISE in exports


def _capabilities(imports: Mapping[str, Any], engine: Any) -> tuple[str, ...]:
    found = []
    for name, item in sorted(imports.items()):
        if isinstance(item, types.ValType):
            continue  # A type that the world names: `use types.{plan}`.
        if (name != TYPES and name not in _CAPABILITY_OF) or not isinstance(item, ComponentInstanceType):
            raise failure(Code.COMPONENT_IMPORTS_FOREIGN, f"import {name}")
        expected = {} if name == TYPES else CAPABILITIES[_CAPABILITY_OF[name]]
        functions = interface_functions(item, engine)
        if functions is None or not functions.items() <= expected.items():
            raise failure(Code.COMPONENT_TYPE_MISMATCH, f"import {name}")
        if name != TYPES:
            found.append(_CAPABILITY_OF[name])
    return tuple(sorted(found))


def check_granted(capabilities: tuple[str, ...], granted: tuple[str, ...]) -> None:
    """Raises `CapabilityNotGranted` for the first that was not."""
    for capability in capabilities:
        if capability not in granted:
            raise failure(Code.CAPABILITY_NOT_GRANTED, capability)
