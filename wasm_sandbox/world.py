"""The world that builders live in, and whether a compiled component is a builder of it.

The types of `wit/` are written here as text. Component types are structural, so a canonical text decides
equality. A test compiles a component against the WIT files and holds the texts to be what the files say.
A component's types are read; none of its code runs.
"""

from collections.abc import Mapping
from typing import Any

from wasmtime.component import Component, ComponentInstanceType, FuncType
from wasmtime.component import _types as types

from chiron.wasm_sandbox.errors import Code, failure

PACKAGE = "chiron:builder"
VERSION = "0.1.0"
BUILD = "build"
REVISE = "revise"
TYPES = f"{PACKAGE}/types@{VERSION}"


def interface_name(capability: str) -> str:
    """The WIT interface of a capability, as components import it."""
    return f"{PACKAGE}/{capability}@{VERSION}"


_REQUEST = (
    "record{task:enum{classification,regression},input-shape:list<u32>,input-type:enum{uint8,float32},"
    "target-shape:list<u32>,classes:u32,max-parameters:u64,trial:u32,trials:u32}"
)
_PLAN = "record{graph:list<u8>,recipe:string}"
_TRIAL = (
    "record{number:u32,outcome:enum{trained,diverged,refused},validation-loss:f64,"
    "validation-score:f64,recipe:string}"
)
_COLUMNS = "record{mean:list<f32>,standard-deviation:list<f32>,minimum:list<f32>,maximum:list<f32>}"

EXPORTS = {
    BUILD: f"func(request:{_REQUEST})->result<{_PLAN},string>",
    REVISE: f"func(request:{_REQUEST})->result<option<{_PLAN}>,string>",
}
"""Functions that a builder exports; `revise` is optional."""

CAPABILITIES: dict[str, dict[str, str]] = {
    "log": {"write": "func(severity:enum{debug,info,warning,error},message:string)"},
    "dataset-shape": {
        "describe": "func()->record{examples:u64,input-shape:list<u32>,target-shape:list<u32>,classes:u32}"
    },
    "dataset-statistics": {
        "input-granularity": "func()->enum{element,first-dimension,whole}",
        "inputs": f"func()->{_COLUMNS}",
        "quantile-levels": "func()->list<f32>",
        "input-quantiles": "func()->list<list<f32>>",
        "targets": f"func()->{_COLUMNS}",
        "class-counts": "func()->list<u64>",
    },
    "dataset-sample": {
        "count": "func()->u32",
        "get": "func(index:u32)->option<record{input:list<u8>,target:list<u8>}>",
    },
    "random": {"next-u64": "func()->u64", "bytes": "func(count:u32)->list<u8>"},
    "trial-scores": {"history": f"func()->list<{_TRIAL}>"},
}
"""Functions of each capability's interface."""

_PRIMITIVES: dict[type, str] = {
    types.Bool: "bool", types.S8: "s8", types.S16: "s16", types.S32: "s32", types.S64: "s64",
    types.U8: "u8", types.U16: "u16", types.U32: "u32", types.U64: "u64", types.F32: "f32",
    types.F64: "f64", types.Char: "char", types.String: "string",
}  # fmt: skip
_DEEPEST = 8
"""Our deepest type has 4 levels; hostile types nest further, and need not be walked."""
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
    """Check that every capability was granted; raises `CapabilityNotGranted` for the first that was not."""
    for capability in capabilities:
        if capability not in granted:
            raise failure(Code.CAPABILITY_NOT_GRANTED, capability)


def signature(function: FuncType) -> str:
    """Canonical text of a function's type."""
    parameters = ",".join(f"{name}:{_text(kind, 0)}" for name, kind in function.params)
    result = "" if function.result is None else f"->{_text(function.result, 0)}"
    return f"func({parameters}){result}"


def _text(kind: Any, depth: int) -> str:
    if depth > _DEEPEST:
        return "…"
    primitive = _PRIMITIVES.get(type(kind))
    if primitive is not None:
        return primitive
    if isinstance(kind, types.ListType):
        return f"list<{_text(kind.element, depth + 1)}>"
    if isinstance(kind, types.RecordType):
        fields = ",".join(f"{name}:{_text(field, depth + 1)}" for name, field in kind.fields)
        return f"record{{{fields}}}"
    if isinstance(kind, types.EnumType):
        return f"enum{{{','.join(kind.names)}}}"
    if isinstance(kind, types.OptionType):
        return f"option<{_text(kind.payload, depth + 1)}>"
    if isinstance(kind, types.ResultType):
        parts = [("_" if part is None else _text(part, depth + 1)) for part in (kind.ok, kind.err)]
        return f"result<{','.join(parts)}>"
    return type(kind).__name__


def interface_functions(interface: ComponentInstanceType, engine: Any) -> dict[str, str] | None:
    """Name and signature of an interface's functions; None if it holds more than functions and types."""
    functions = {}
    for name, extern in interface.exports(engine).items():
        item = extern.ty
        if isinstance(item, FuncType):
            functions[name] = signature(item)
        elif not isinstance(item, types.ValType):
            return None
    return functions
