"""An inspection tells what a component is and asks for, or what is wrong with it; none of its code runs."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm

from chiron.wasm_sandbox.commands import CompileCommand
from chiron.wasm_sandbox.compilation import inspect_component
from chiron.wasm_sandbox.errors import Code, ComponentRefused
from chiron.wasm_sandbox.execution import compile_builder
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wire.contract import MAX_COMPONENT_BYTES, Capability
from tests.corpus.cases import wat_cases
from tests.corpus.components import from_wat
from tests.wasm_sandbox.conftest import BUILD_PARAMETERS, small_builder

TERMS = CompileCommand("pulley", 2**20, False, 2**30, False)
WASI = [
    "wasi:cli/environment", "wasi:cli/exit", "wasi:cli/run", "wasi:cli/stdin", "wasi:cli/stdout",
    "wasi:cli/stderr", "wasi:cli/terminal-input", "wasi:cli/terminal-output", "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout", "wasi:cli/terminal-stderr", "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock", "wasi:clocks/timezone", "wasi:filesystem/preopens",
    "wasi:filesystem/types", "wasi:http/incoming-handler", "wasi:http/outgoing-handler",
    "wasi:http/types", "wasi:io/error", "wasi:io/poll", "wasi:io/streams", "wasi:random/insecure",
    "wasi:random/insecure-seed", "wasi:random/random", "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup", "wasi:sockets/network", "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp", "wasi:sockets/udp-create-socket", "wasi:keyvalue/store",
    "wasi:blobstore/blobstore", "wasi:nn/graph", "wasi:logging/logging", "wasi:config/store",
]  # fmt: skip


def test_a_builder_is_described() -> None:
    component = from_wat(
        f'(core module $code (func (export "build") {BUILD_PARAMETERS} unreachable))', log=True
    )
    info = inspect_component(component)
    assert info.sha256 == sha256(component).hexdigest()
    assert info.capabilities == (Capability.LOG,)
    assert info.revises is False


def test_no_code_of_the_component_runs() -> None:
    text = Path(__file__).parents[1].joinpath("corpus/wat/loop-in-start.wat").read_text()
    assert inspect_component(from_wat(text)).capabilities == ()


@pytest.mark.parametrize(
    ("component", "code"),
    [
        (b"", Code.COMPONENT_MALFORMED),
        (b"\0", Code.COMPONENT_MALFORMED),
        (b"(component)", Code.COMPONENT_MALFORMED),
        (b"\0asm\x0d\0\1", Code.COMPONENT_MALFORMED),
        (b"\0asm\1\0\0\0", Code.COMPONENT_IS_CORE_MODULE),
        (b"\0asm\x0d\0\1\0", Code.COMPONENT_EXPORT_MISSING),
        (b"\0asm\x0d\0\1\0" + b"\xff" * 64, Code.COMPONENT_MALFORMED),
        (bytes(MAX_COMPONENT_BYTES + 1), Code.COMPONENT_TOO_LARGE),
    ],
    ids=["empty", "a-byte", "text", "half-a-head", "core-module", "empty-component", "broken", "too-large"],
)
def test_what_is_no_builder_is_told(component: bytes, code: Code) -> None:
    with pytest.raises(ComponentRefused) as refusal:
        inspect_component(component)
    assert refusal.value.code == code


@pytest.mark.parametrize("interface", WASI)
def test_no_interface_of_wasi_may_be_imported(interface: str) -> None:
    for version in ("@0.2.0", "@0.2.6", "@0.3.0", ""):
        component = bytes(wat2wasm(f'(component (import "{interface}{version}" (instance)))'))
        with pytest.raises(ComponentRefused) as refusal:
            compile_builder(TERMS, component)
        assert refusal.value.code == Code.COMPONENT_IMPORTS_FOREIGN
        assert refusal.value.detail == f"import {interface}{version}"


def test_a_component_that_takes_long_to_compile_is_refused(python_probes: bytes) -> None:
    with pytest.raises(ComponentRefused) as refusal:
        inspect_component(python_probes, SandboxLimits(compile_seconds=0.7))
    assert refusal.value.code == Code.COMPONENT_COMPILE_LIMIT


def test_a_component_that_takes_much_memory_to_compile_is_refused(python_probes: bytes) -> None:
    with pytest.raises(ComponentRefused) as refusal:
        inspect_component(python_probes, SandboxLimits(compile_memory_bytes=2**24))
    assert refusal.value.code == Code.COMPONENT_COMPILE_LIMIT


GOOD = small_builder()
SOURCES = [GOOD, *(case.component for case in wat_cases() if case.expects.startswith("component-"))]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.data())
def test_a_changed_component_is_described_or_refused(source: bytes, draw: st.DataObject) -> None:
    """In this process: what does not end in a code would end the process, or raise something else."""
    content = bytearray(source)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(content) - 1))
        content[place] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(content)))
    for candidate in (bytes(content), bytes(content[:cut]), bytes(content[:cut] + content)):
        with suppress(ComponentRefused):
            assert set(compile_builder(TERMS, candidate).capabilities) <= set(Capability)
