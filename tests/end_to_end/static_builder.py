"""Builders as small components out of WAT: some that misbehave at build, and one that revises."""

import wasmtime

from chiron.builder_kit.component import SHELL, wrapped

_CODE = """
(module
  (memory (export "memory") PAGES)
  (global $next (mut i32) (i32.const 1024))
  (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8)))))
  DATA
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) BODY)
  MORE)
"""
_PLAN_AT = 65536
"""Second page: the first is for what the host passes."""
ENDLESS = "(loop $again (br $again)) unreachable"
GREEDY = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 256)) (i32.const -1)))) unreachable"


def component(body: str) -> bytes:
    """A component of the builders' world whose `build` is this core WebAssembly."""
    return wrapped(_module(body))


def revising(graph: bytes, recipe: bytes, better_recipe: bytes, better_graph: bytes | None = None) -> bytes:
    """Builds with one recipe; revises to a better one for the second trial, and has no idea for the third."""
    second = _PLAN_AT + 2 * 65536
    graph_at = _PLAN_AT + 32 if better_graph is None else second + 32 + len(better_recipe)
    plan = (graph_at, len(better_graph or graph), second + 32, len(better_recipe))
    answer = _numbers(0, 1, *plan).ljust(32, b"\0") + better_recipe + (better_graph or b"")
    nothing = _data(second + 65536, _numbers(0, 0))
    choice = (
        f"(if (result i32) (i32.eq (local.get $trial) (i32.const 1)) "
        f"(then (i32.const {second})) (else (i32.const {second + 65536})))"
    )
    return building_then(graph, recipe, choice, _data(second, answer) + nothing)


def giving_up(graph: bytes, recipe: bytes) -> bytes:
    """Builds, and has no better idea ever."""
    second = _PLAN_AT + 2 * 65536
    return building_then(graph, recipe, f"(i32.const {second})", _data(second, _numbers(0, 0)))


def building_then(graph: bytes, recipe: bytes, answer: str, data: str = "") -> bytes:
    """Builds; every revision is this core WebAssembly, which finds `data` in memory from its fourth page."""
    first = _PLAN_AT
    places = first + 32, first + 32 + len(graph)
    build = _numbers(0, places[0], len(graph), places[1], len(recipe))
    data = _data(first, build.ljust(32, b"\0") + graph + recipe) + data
    shell = SHELL
    for old, new in _REVISION.items():
        assert old in shell
        shell = shell.replace(old, new)
    module = _module(f"(i32.const {first})", _REVISE.replace("ANSWER", answer), data, pages=5)
    return wrapped(module, shell)


def _module(build: str, more: str = "", data: str = "", pages: int = 2) -> bytes:
    text = _CODE
    for name, content in (("PAGES", str(pages)), ("DATA", data), ("BODY", build), ("MORE", more)):
        text = text.replace(name, content)
    return bytes(wasmtime.wat2wasm(text))


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def _data(place: int, content: bytes) -> str:
    escaped = "".join(f"\\{byte:02x}" for byte in content)
    return f'(data (i32.const {place}) "{escaped}")'


_REVISION = {
    """(export "plan" (type (eq $plan')))))""": """(export "plan" (type $plan-in (eq $plan')))
    (type $outcome' (enum "trained" "diverged" "refused"))
    (export "outcome" (type $outcome (eq $outcome')))
    (type $trial' (record
      (field "number" u32) (field "outcome" $outcome) (field "validation-loss" float64)
      (field "validation-score" float64) (field "recipe" string)))
    (export "trial" (type (eq $trial')))))""",
    """  (core module $code""": """  (alias export $types "trial" (type $trial'))
  (import "trial" (type $trial (eq $trial')))
  (core module $code""",
    """    (func (export "build")""": """    (func (export "revise")
      (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32) (result i32) unreachable)
    (func (export "build")""",
    """  (export "build" (func $build)))""": """  (export "build" (func $build))
  (func $revise (param "request" $build-request) (param "history" (list $trial))
    (result (result (option $plan) (error string)))
    (canon lift (core func $running "revise") (memory $memory) (realloc $realloc)))
  (export "revise" (func $revise)))""",
}
"""What a builder that revises has besides: the types of trials, and the second export."""
_REVISE = """(func (export "revise")
  (param i32 i32 i32 i32 i32 i32 i32 i64) (param $trial i32) (param i32 i32 i32) (result i32) ANSWER)"""
