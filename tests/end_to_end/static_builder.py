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
    plan = b"".join(field.to_bytes(4, "little") for field in fields) + graph + recipe
    escaped = "".join(f"\\{byte:02x}" for byte in plan)
    data = f'(data (i32.const {_PLAN_AT}) "{escaped}")'
    return component(f"(i32.const {_PLAN_AT})", data, pages=2 + len(plan) // 65536)
