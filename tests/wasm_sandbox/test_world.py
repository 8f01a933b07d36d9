"""The contract in `signatures` is what the WIT files say, and types that only resemble it are told apart."""

import re
from collections.abc import Callable

import pytest
from wasmtime import wat2wasm
from wasmtime.component import ComponentInstanceType, FuncType

from chiron.wasm_sandbox.engine import Backend, compile_component, load_compiled, make_engine
from chiron.wasm_sandbox.world import (
    CAPABILITIES,
    EXPORTS,
    PACKAGE,
    TYPES,
    VERSION,
    interface_functions,
    interface_name,
    signature,
)
from chiron.wire.contract import Capability, InputType, Task, TrialOutcome
from tests.corpus.components import WIT

TYPES_WIT = (WIT / "types.wit").read_text()


def test_a_component_made_from_the_wit_files_has_exactly_these_signatures(
    compiled_probes: Callable[[], bytearray],
) -> None:
    """componentize-py reads `wit/` and writes the types; wasmtime reads them back."""
    engine = make_engine(Backend.PULLEY)
    kind = load_compiled(engine, compiled_probes()).type
    imports = {}
    for name, item in kind.imports(engine).items():
        assert isinstance(item.ty, ComponentInstanceType)
        imports[name] = interface_functions(item.ty, engine)
    assert imports.pop(TYPES) == {}
    assert imports == {interface_name(name): functions for name, functions in CAPABILITIES.items()}
    exports = {name: item.ty for name, item in kind.exports(engine).items()}
    found = {name: signature(item) for name, item in exports.items() if isinstance(item, FuncType)}
    assert found == EXPORTS


def test_names_and_version_are_those_of_the_files() -> None:
    for path in WIT.glob("*.wit"):
        assert f"package {PACKAGE}@{VERSION};" in path.read_text()
    assert set(CAPABILITIES) == set(Capability)


@pytest.mark.parametrize(
    ("name", "values"), [("task", Task), ("element-type", InputType), ("outcome", TrialOutcome)]
)
def test_the_enums_are_those_of_the_files(name: str, values: type[Task | InputType | TrialOutcome]) -> None:
    found = re.search(rf"enum {name} \{{(.*?)\}}", TYPES_WIT, re.DOTALL)
    assert found is not None
    cases = re.findall(r"[a-z0-9]+", re.sub(r"///.*", "", found[1]))
    assert cases == [value.value for value in values]


def exported(types: str) -> str:
    """Signature of a function that takes a value of the last of `types`."""
    engine = make_engine(Backend.PULLEY)
    component = compile_component(
        engine,
        bytes(
            wat2wasm(
                f"""(component {types}
                  (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "f") (param i32 i32)))
                  (core instance $i (instantiate $m))
                  (alias core export $i "memory" (core memory $memory))
                  (alias core export $i "realloc" (core func $realloc))
                  (func $f (param "value" $t)
                    (canon lift (core func $i "f") (memory $memory) (realloc $realloc)))
                  (export "f" (func $f)))"""
            )
        ),
    )
    item = component.type.exports(engine)["f"].ty
    assert isinstance(item, FuncType)
    return signature(item)


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ("(type $t (list u8))", "func(value:list<u8>)"),
        ("(type $t (list s8))", "func(value:list<s8>)"),
        ("(type $t (tuple u32 u32))", "func(value:TupleType)"),
        ("(type $t (option u32))", "func(value:option<u32>)"),
        ("(type $t (result u32))", "func(value:result<u32,_>)"),
    ],
)
def test_types_have_canonical_texts(types: str, text: str) -> None:
    assert exported(types) == text


def test_a_type_of_any_depth_has_a_short_text() -> None:
    deep = "(type $t0 (list u8))" + "".join(f"(type $t{n} (list $t{n - 1}))" for n in range(1, 90))
    assert len(exported(deep + "(type $t (list $t89))")) < 120
