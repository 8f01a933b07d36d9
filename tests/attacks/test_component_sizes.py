"""Components of many small parts, made to exhaust the compiler, and code at the edges of instructions."""

import time
from collections.abc import Callable
from functools import reduce

import pytest
import wasmtime

from chiron.builder_kit.component import static_component, wrapped
from chiron.wasm_sandbox.assets import attach_asset
from chiron.wasm_sandbox.capability_data import CapabilityData, DatasetShape
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.sandbox import Sandbox
from chiron.wire.contract import BuildRequest, CapabilityGrants, InputType, Task
from tests.support import graphs

REQUEST = BuildRequest(
    task=Task.CLASSIFICATION, input_shape=(8, 8), input_dtype=InputType.UINT8, classes=10, max_parameters=3000
)
DATA = CapabilityData(DatasetShape(examples=10, input_shape=(8, 8), target_shape=(), classes=10))
SECONDS = 40
_MODULE = """(module (memory (export "memory") 2)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  BEFORE
  (func (export "build") (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) BODY)
  AFTER)"""


def _component(body: str = "unreachable", *, before: str = "", after: str = "") -> bytes:
    text = _MODULE
    for name, content in (("BEFORE", before), ("BODY", body), ("AFTER", after)):
        text = text.replace(name, content)
    return wrapped(bytes(wasmtime.wat2wasm(text)))


def _with_many_assets() -> bytes:
    component = static_component(graphs.linear((8, 8), 2), b"{}")
    return reduce(lambda made, number: attach_asset(made, str(number), b""), range(64), component)


_ADD_ONE = "(local.set $x (i32.add (local.get $x) (i32.const 1)))"
_PARTS = (
    "(func)" * 4000,
    f"(func (local $x i32) {_ADD_ONE * 60_000})",
    f"(func (block $a (br_table {'$a ' * 50_000} (i32.const 3))))",
    f"(func {'(block ' * 8000}{')' * 8000})",
    f"(func {'(local v128)' * 2000})",
    "".join(f'(data (i32.const {n}) "a")' for n in range(2000)),
    f'(data "{"a" * 5_000_000}")',
)
CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "functions, instructions, targets, blocks, locals and data": (
        lambda: _component(after="".join(_PARTS)),
        "builder-trapped",
    ),
    "assets": (_with_many_assets, "answered"),
    "tail calls": (
        lambda: _component("(return_call $g)", before="(func $g (result i32) (return_call $g))"),
        "builder-out-of-fuel",
    ),
    "exceptions": (
        lambda: _component("(block $h (try_table (catch_all $h) (throw $t))) unreachable", before="(tag $t)"),
        "builder-trapped",
    ),
    "numbers that are none": (lambda: _component("(i32.trunc_f32_s (f32.const nan))"), "builder-trapped"),
    "quotients that overflow": (
        lambda: _component("(drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1))) unreachable"),
        "builder-trapped",
    ),
}


@pytest.mark.parametrize("many", CASES)
def test_a_component_of_many_ends_with_a_code_and_in_time(many: str) -> None:
    make, expected = CASES[many]
    sandbox = Sandbox(SandboxLimits(compile_seconds=SECONDS, fuel=2_000_000))
    begun = time.monotonic()
    try:
        sandbox.build(make(), REQUEST, CapabilityGrants(granted=frozenset()), DATA, seed=1)
        ended = "answered"
    except SandboxError as error:
        ended = str(error.code)
    assert ended == expected
    assert time.monotonic() - begun < SECONDS
