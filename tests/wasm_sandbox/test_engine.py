"""The engine's settings hold: no executable memory, no reservation, nothing that is off, the same on both."""

import re
import subprocess
import sys

import pytest
from wasmtime import Config, Engine, Module, Store, WasmtimeError
from wasmtime.component import Component

from chiron.wasm_sandbox.engine import Backend, load_compiled, make_engine, make_store
from chiron.wasm_sandbox.limits import SandboxLimits
from tests.corpus.components import ROOT

PROGRAM = """
import sys
from pathlib import Path
from wasmtime import Instance, Module
from chiron.wasm_sandbox.engine import Backend, make_engine, make_store
from chiron.wasm_sandbox.limits import SandboxLimits

def regions():
    return [line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines()
            if len(line.split()) < 6 or not line.split()[5].startswith(("/", "[v"))]

def size():
    return int(Path("/proc/self/statm").read_text().split()[0]) * 4096

engine = make_engine(Backend(sys.argv[1]))
before, had = size(), regions()
module = Module(engine, '(module (memory (export "m") 160) (func (export "f") (result i32) (i32.const 7)))')
store = make_store(engine, SandboxLimits())
instance = Instance(store, module, [])
assert instance.exports(store)["f"](store) == 7
print(size() - before, sum("x" in region for region in regions()) - sum("x" in region for region in had))
"""


def grown(backend: Backend) -> tuple[int, int]:
    """Virtual bytes and anonymous executable regions that a module with a memory of 10 MiB adds."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend], capture_output=True, text=True, check=True, cwd=ROOT
    )
    size, executable = result.stdout.split()
    return int(size), int(executable)


def test_pulley_makes_no_executable_page_and_reserves_nothing() -> None:
    size, executable = grown(Backend.PULLEY)
    assert executable == 0
    assert size < 24 * 2**20


def test_cranelift_reserves_nothing_either() -> None:
    size, executable = grown(Backend.CRANELIFT)
    assert executable > 0  # The test above sees what it looks for.
    assert size < 24 * 2**20


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize(
    "text",
    [
        "(memory 1 1 shared)",
        "(memory i64 1)",
        "(type (struct (field i32)))",
        "(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
        "(func (param i64 i64 i64 i64) (result i64 i64)"
        " (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
    ],
    ids=["shared-memory", "memory64", "gc", "relaxed-simd", "wide-arithmetic"],
)
def test_what_no_builder_needs_is_off(backend: Backend, text: str) -> None:
    with pytest.raises(WasmtimeError):
        Module(make_engine(backend), f"(module {text})")


def test_compiled_code_of_other_settings_is_not_loaded() -> None:
    other = bytearray(Component(Engine(Config()), "(component)").serialize())
    with pytest.raises(WasmtimeError, match=re.compile("compiled|target|config", re.IGNORECASE)):
        load_compiled(make_engine(Backend.PULLEY), other)


def test_a_store_begins_with_the_fuel_of_its_limits() -> None:
    store = make_store(make_engine(Backend.PULLEY), SandboxLimits(fuel=1234))
    assert isinstance(store, Store)
    assert store.get_fuel() == 1234
