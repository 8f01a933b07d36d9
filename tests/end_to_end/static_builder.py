"""Builders as small components out of WAT: one that answers fixed bytes, and some that misbehave at build."""

import wasmtime

# The types are those of wasm_sandbox/wit; only the body of `build` and the data differ.
_TEMPLATE = """
(component
  (type $types-of-builder (instance
    (type $task' (enum "classification" "regression"))
    (export "task" (type $task (eq $task')))
    (type $element-type' (enum "uint8" "float32"))
    (export "element-type" (type $element-type (eq $element-type')))
    (type $build-request' (record
      (field "task" $task) (field "input-shape" (list u32)) (field "input-type" $element-type)
      (field "target-shape" (list u32)) (field "classes" u32) (field "max-parameters" u64)
      (field "trial" u32) (field "trials" u32)))
    (export "build-request" (type (eq $build-request')))
    (type $plan' (record (field "graph" (list u8)) (field "recipe" string)))
    (export "plan" (type (eq $plan')))))
  (import "chiron:builder/types@0.1.0" (instance $types (type $types-of-builder)))
  (alias export $types "build-request" (type $build-request'))
  (import "build-request" (type $build-request (eq $build-request')))
  (alias export $types "plan" (type $plan'))
  (import "plan" (type $plan (eq $plan')))
  (core module $code
    (memory (export "memory") PAGES)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7))
                                                             (i32.const -8)))))
    DATA
    (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) BODY))
  (core instance $running (instantiate $code))
  (alias core export $running "memory" (core memory $memory))
  (alias core export $running "realloc" (core func $realloc))
  (func $build (param "request" $build-request) (result (result $plan (error string)))
    (canon lift (core func $running "build") (memory $memory) (realloc $realloc)))
  (export "build" (func $build)))
"""
_PLAN_AT = 65536
"""Second page: the first is for what the host passes."""
ENDLESS = "(loop $again (br $again)) unreachable"
GREEDY = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 256)) (i32.const -1)))) unreachable"


def component(body: str, data: str = "", pages: int = 2) -> bytes:
    """A component of the builders' world whose `build` is this core WebAssembly."""
    text = _TEMPLATE.replace("PAGES", str(pages)).replace("DATA", data).replace("BODY", body)
    return bytes(wasmtime.wat2wasm(text))


def answering(graph: bytes, recipe: bytes) -> bytes:
    """A component whose `build` answers this plan, whatever it is asked."""
    head = 20
    fields = (0, _PLAN_AT + head, len(graph), _PLAN_AT + head + len(graph), len(recipe))
    plan = _numbers(*fields) + graph + recipe
    return component(f"(i32.const {_PLAN_AT})", _data(_PLAN_AT, plan), pages=2 + len(plan) // 65536)


def revising(graph: bytes, recipe: bytes, better_recipe: bytes) -> bytes:
    """Builds with one recipe; revises to a better one for the second trial, and has no idea for the third."""
    text = _TEMPLATE
    for old, new in _REVISION.items():
        assert old in text
        text = text.replace(old, new)
    first, second = _PLAN_AT, _PLAN_AT + 2 * 65536
    places = first + 32, first + 32 + len(graph), second + 32
    build = _numbers(0, places[0], len(graph), places[1], len(recipe))
    revise = _numbers(0, 1, places[0], len(graph), places[2], len(better_recipe))
    nothing = _numbers(0, 0)
    data = _data(first, build.ljust(32, b"\0") + graph + recipe)
    data += _data(second, revise.ljust(32, b"\0") + better_recipe) + _data(second + 65536, nothing)
    choice = (
        f"(if (result i32) (i32.eq (local.get $trial) (i32.const 1)) "
        f"(then (i32.const {second})) (else (i32.const {second + 65536})))"
    )
    text = text.replace("PAGES", "5").replace("DATA", data).replace("REVISE", choice)
    return bytes(wasmtime.wat2wasm(text.replace("BODY", f"(i32.const {first})")))


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
      (param i32 i32 i32 i32 i32 i32 i32 i64) (param $trial i32) (param i32 i32 i32) (result i32) REVISE)
    (func (export "build")""",
    """  (export "build" (func $build)))""": """  (export "build" (func $build))
  (func $revise (param "request" $build-request) (param "history" (list $trial))
    (result (result (option $plan) (error string)))
    (canon lift (core func $running "revise") (memory $memory) (realloc $realloc)))
  (export "revise" (func $revise)))""",
}
"""What a builder that revises has besides: the types of trials, and the second export."""
