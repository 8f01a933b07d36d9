"""A builder's export is called, and its answer read out of the engine's values, bounded before it is copied.

wasmtime's Python binding reads a `list<u8>` one ctypes object a byte: 2.5 MB take seven seconds. The type
of the export was checked by `chiron.wasm_sandbox.world`, so this reader knows what lies where, and takes
every n-th byte of the values' memory instead.
"""

import ctypes
from ctypes import POINTER, byref, pointer, string_at
from dataclasses import dataclass
from typing import Any

from wasmtime import _ffi as ffi
from wasmtime.component import Func
from wasmtime.component._enter import enter_wasm

from chiron.wasm_sandbox.errors import Code, failure

_VALUE_BYTES = ctypes.sizeof(ffi.wasmtime_component_val_t)
_BYTE_AT = ffi.wasmtime_component_val_t.of.offset
_PART = 65_536
_UTF8_BYTES = 4
"""The longest encoding of a character."""


@dataclass(frozen=True)
class AnswerBounds:
    """Sizes in bytes, of the error string in characters."""

    graph: int
    recipe: int
    error: int


@dataclass(frozen=True)
class Refusal:
    """The builder's error string, cut to its bound."""

    text: str


@dataclass(frozen=True)
class Answer:
    """The builder's plan."""

    graph: bytes
    recipe: bytes


def call(function: Func, store: Any, arguments: list[Any], bounds: AnswerBounds) -> Answer | Refusal | None:
    """Call an export of type `result<plan, string>` or `result<option<plan>, string>`.

    Raises:
        WasmtimeError: it did not return, or what it returned is no value of its type.
        PlanRefused: a part of the plan is larger than its bound.
    """
    kinds = [kind for _, kind in function.type(store).params]
    values = (ffi.wasmtime_component_val_t * len(kinds))()
    made = 0
    answered = False
    result = ffi.wasmtime_component_val_t()
    try:
        for kind, argument in zip(kinds, arguments, strict=True):
            kind.convert_to_c(store, argument, pointer(values[made]))
            made += 1

        def run() -> Any:
            return ffi.wasmtime_component_func_call(
                byref(function._func), store._context(), values, made, byref(result), 1
            )

        enter_wasm(run)
        answered = True
        return _read(result, bounds)
    finally:
        for index in range(made):
            ffi.wasmtime_component_val_delete(byref(values[index]))
        if answered:
            ffi.wasmtime_component_val_delete(byref(result))


def _read(value: Any, bounds: AnswerBounds) -> Answer | Refusal | None:
    outcome = value.of.result
    if not outcome.is_ok:
        text = outcome.val.contents.of.string
        shown = string_at(text.data, min(text.size, bounds.error * _UTF8_BYTES)).decode(errors="ignore")
        return Refusal(shown[: bounds.error])
    plan = outcome.val.contents
    if plan.kind == ffi.WASMTIME_COMPONENT_OPTION.value:
        if not plan.of.option:
            return None
        plan = plan.of.option.contents
    graph, recipe = (plan.of.record.data[index].val.of for index in range(2))
    if graph.list.size > bounds.graph or recipe.string.size > bounds.recipe:
        raise failure(Code.PLAN_TOO_LARGE)
    return Answer(_bytes(graph.list), string_at(recipe.string.data, recipe.string.size))


def _bytes(items: Any) -> bytes:
    start = ctypes.cast(items.data, POINTER(ctypes.c_uint8))
    address = ctypes.addressof(start.contents) if items.size else 0
    parts = []
    for index in range(0, items.size, _PART):
        count = min(_PART, items.size - index)
        part = string_at(address + index * _VALUE_BYTES, count * _VALUE_BYTES)
        parts.append(part[_BYTE_AT::_VALUE_BYTES])
    return b"".join(parts)
