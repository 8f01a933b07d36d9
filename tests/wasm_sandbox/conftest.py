"""What the sandbox's tests share: a small builder, the Python probes, and data for every capability."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chiron.wasm_sandbox.capability_data import (
    CapabilityData,
    Columns,
    DatasetSample,
    DatasetShape,
    DatasetStatistics,
    Granularity,
)
from chiron.wasm_sandbox.compilation import compile_apart
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.module_cache import ModuleCache, cache_key
from chiron.wire.contract import BuildRequest, Capability, CapabilityGrants, InputType, Task
from tests.corpus.cases import probe_trial, python_component
from tests.corpus.components import MODULES, from_c, from_wat

PROBES = Path(__file__).parent / "probes"
REQUEST = BuildRequest(
    task=Task.CLASSIFICATION, input_shape=(2, 2), input_dtype=InputType.UINT8, classes=3, max_parameters=1000
)
EVERYTHING = CapabilityGrants(granted=frozenset(Capability), sample_examples=3)
NOTHING = CapabilityGrants(granted=frozenset())
LOG_ONLY = CapabilityGrants(granted=frozenset({Capability.LOG}))
QUICK = SandboxLimits(fuel=200_000_000, run_seconds=60, parallel_compilation=True)

BUILD_PARAMETERS = "(param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)"


def small_builder(body: str = "i32.const 16", *, before: str = "", data: bytes = b"") -> bytes:
    """A builder whose `build` is `body`; `data` lies at 16, where its default answer is read."""
    text = "".join(f"\\{byte:02x}" for byte in data)
    return from_wat(
        f"""(core module $code
          (memory (export "memory") 1)
          (data (i32.const 16) "{text}")
          {before}
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
          (func (export "build") {BUILD_PARAMETERS} {body}))"""
    )


def data(seed: int = 0) -> CapabilityData:
    """Values for every capability, none of them round."""
    random = np.random.default_rng(seed)

    def columns(count: int) -> Columns:
        return Columns(*random.normal(size=(4, count)).astype(np.float32))

    return CapabilityData(
        DatasetShape(41, (2, 2), (), 3),
        DatasetStatistics(
            granularity=Granularity.ELEMENT,
            inputs=columns(4),
            quantile_levels=np.array([0.25, 0.75], np.float32),
            input_quantiles=random.normal(size=(2, 4)).astype(np.float32),
            targets=columns(0),
            class_counts=np.array([20, 1, 2**40], np.uint64),
        ),
        DatasetSample(
            random.integers(0, 256, (5, 2, 2)).astype(np.uint8), np.array([0, 1, 2, 1, 0], np.int64)
        ),
    )


@pytest.fixture(scope="session")
def python_probes() -> bytes:
    """The component of the Python probes, and of the hostile modules."""
    return python_component()


@pytest.fixture(scope="session")
def compiled_probes(python_probes: bytes) -> Callable[[], bytearray]:
    """Loads the same, compiled for Pulley: kept on disk in `MODULES`, because compiling takes long."""
    cache, key = ModuleCache(MODULES), cache_key(python_probes, Backend.PULLEY, QUICK.stack_bytes)

    def load() -> bytearray:
        module = cache.load(key)
        assert module is not None
        return module

    with (MODULES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if cache.load(key) is None:
            cache.store(key, compile_apart(python_probes, QUICK, Backend.PULLEY, keep=True)[1])
    return load


@pytest.fixture(scope="session")
def floats() -> bytes:
    """A C builder that computes with floats."""
    return from_c(PROBES / "floats.c")


@pytest.fixture
def asking() -> Callable[[str], BuildRequest]:
    """A request that the named probe answers."""
    return lambda name: REQUEST.model_copy(update={"trial": probe_trial(name), "trials": 64})
