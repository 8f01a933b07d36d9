"""A component around a core WebAssembly module, without any tool chain: for builders that need no import.

The shell below is the contract of `wasm_sandbox/wit` as text. It is assembled with an empty module in it,
which is then replaced by the real one in the binary (a component is a sequence of sections, as a module is).
"""

import wasmtime

from chiron.wasm_sandbox.binary import COMPONENT, MODULE, encode_section, read_sections

SHELL = """
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
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) unreachable))
  (core instance $running (instantiate $code))
  (alias core export $running "memory" (core memory $memory))
  (alias core export $running "realloc" (core func $realloc))
  (func $build (param "request" $build-request) (result (result $plan (error string)))
    (canon lift (core func $running "build") (memory $memory) (realloc $realloc)))
  (export "build" (func $build)))
"""
_STATIC = """
(module
  (memory (export "memory") {pages})
  (global $next (mut i32) (i32.const 1024))
  (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (if (i32.gt_u (global.get $next) (i32.const {plan})) (then unreachable)))
  (data (i32.const {plan}) "{content}")
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
    (i32.const {plan})))
"""
_PLAN_AT = 65_536
"""The second page: the first is for the request's lists."""
_ANSWER_BYTES = 20


def static_component(graph: bytes, recipe: bytes) -> bytes:
    """A builder that answers this plan, whatever it is asked."""
    # result<plan, string>: discriminant 0, then pointer and length of the graph and of the recipe.
    graph_at = _PLAN_AT + _ANSWER_BYTES
    fields = (0, graph_at, len(graph), graph_at + len(graph), len(recipe))
    content = b"".join(field.to_bytes(4, "little") for field in fields) + graph + recipe
    text = _STATIC.format(
        pages=2 + len(content) // 65_536,
        plan=_PLAN_AT,
        content="".join(f"\\{byte:02x}" for byte in content),
    )
    return wrapped(bytes(wasmtime.wat2wasm(text)))


def wrapped(module: bytes, shell_text: str = SHELL) -> bytes:
    """A component of the builders' world, or of `shell_text`'s, whose code is this core module.

    The module imports nothing and exports `memory`, `realloc` and `build` as the canonical ABI lays them out:
    see `builders/logistic_c`. Whether it does is for `inspect_component` to say.
    """
    shell = bytes(wasmtime.wat2wasm(shell_text))
    sections = (
        encode_section(kind, module if kind == MODULE else shell[start:end])
        for kind, start, end in read_sections(shell)
    )
    return b"".join((COMPONENT, *sections))
