"""The WebAssembly engine, set up for enclaves.

`pulley` compiles to the portable bytecode of wasmtime's interpreter: no executable page is ever made,
no code generator's output is trusted to keep to its memory, and no signal handler is needed.
`cranelift` makes machine code, under otherwise the same settings; the tests compare the two.
"""

import ctypes
import struct
from enum import StrEnum
from typing import Protocol

from wasmtime import Config, Engine, Store, WasmtimeError
from wasmtime import _bindings as bindings
from wasmtime import _ffi as ffi
from wasmtime.component import Component

from chiron.wasm_sandbox.codec import Buffer

CONFIG_VERSION = 1
"""Part of every cache key: raise it with any change to the settings below."""


class Backend(StrEnum):
    """How WebAssembly is executed."""

    PULLEY = "pulley"
    CRANELIFT = "cranelift"


class StoreLimits(Protocol):
    """The part of `SandboxLimits` that the engine counts."""

    @property
    def fuel(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def memories(self) -> int: ...
    @property
    def table_elements(self) -> int: ...
    @property
    def tables(self) -> int: ...
    @property
    def instances(self) -> int: ...


def make_engine(
    backend: Backend, *, stack_bytes: int = 2**20, parallel: bool = False, optimize: bool = True
) -> Engine:
    """An engine of our settings; `stack_bytes` bounds the WebAssembly stack.

    Without `optimize` it compiles in three quarters of the time, for who only wants to look at the types.
    """
    config = Config()
    if backend is Backend.PULLEY:
        config.target = "pulley64" if struct.calcsize("P") == 8 else "pulley32"
    _need_nothing_from_the_host(config)
    _be_deterministic(config)
    config.consume_fuel = True
    config.epoch_interruption = True
    config.max_wasm_stack = stack_bytes
    config.parallel_compilation = parallel
    config.cranelift_opt_level = "speed" if optimize else "none"
    return Engine(config)


def _need_nothing_from_the_host(config: Config) -> None:
    # Under Occlum a reservation consumes enclave memory, madvise does nothing, and what a page fault
    # reports comes from the untrusted host: so no reserved ranges, no guard pages, no signal handlers.
    config.memory_reservation = 0
    config.memory_guard_size = 0
    config.memory_reservation_for_growth = 0
    config.memory_may_move = True
    config.signals_based_traps = False
    config.memory_init_cow = False
    config.native_unwind_info = False


def _be_deterministic(config: Config) -> None:
    config.cranelift_nan_canonicalization = True
    config.wasm_threads = False
    config.shared_memory = False
    config.wasm_relaxed_simd = False
    # What no builder needs is not there to be attacked.
    config.wasm_memory64 = False
    config.wasm_gc = False
    config.wasm_function_references = False
    config.wasm_stack_switching = False
    config.wasm_custom_page_sizes = False
    config.wasm_wide_arithmetic = False
    config.wasm_component_model = True
    config.wasm_component_model_map = False
    bindings.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    bindings.wasmtime_config_wasm_component_model_more_async_builtins_set(config.ptr(), False)
    bindings.wasmtime_config_wasm_component_model_async_stackful_set(config.ptr(), False)


def make_store(engine: Engine, limits: StoreLimits) -> Store:
    """A store that stops a builder at its limits. One tick of the engine's epoch ends its run."""
    store = Store(engine)
    store.set_fuel(limits.fuel)
    store.set_epoch_deadline(1)
    store.set_limits(
        memory_size=limits.memory_bytes,
        table_elements=limits.table_elements,
        instances=limits.instances,
        tables=limits.tables,
        memories=limits.memories,
    )
    return store


def compile_component(engine: Engine, component: Buffer) -> Component:
    """Compile; raises `WasmtimeError` for what is no valid component."""
    return Component(engine, component)


def load_compiled(engine: Engine, compiled: Buffer) -> Component:
    """Load what `Component.serialize` made. UNSAFE on bytes of another origin: they run as they are.

    Without `Component.deserialize`'s copy: the compiled form of a Python builder has 34 MB.
    """
    pointer = ctypes.POINTER(ffi.wasmtime_component_t)()
    held = compiled if isinstance(compiled, bytearray) else bytearray(compiled)
    content = (ctypes.c_uint8 * len(held)).from_buffer(held)
    error = ffi.wasmtime_component_deserialize(engine.ptr(), content, len(compiled), ctypes.byref(pointer))
    if error:
        raise WasmtimeError._from_ptr(error)
    return Component._from_ptr(pointer)


__all__ = [
    "Backend",
    "StoreLimits",
    "WasmtimeError",
    "compile_component",
    "load_compiled",
    "make_engine",
    "make_store",
]
