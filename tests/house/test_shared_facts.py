"""What two sides share is written once: no path, and no code that another side acts on, is spelled again."""

import ast
from collections.abc import Iterator
from pathlib import Path

import chiron
from chiron.wire import codes, paths

ROOT = Path(chiron.__file__).parent
ROOMS = ("api", "ps", "runtime", "client", "cli", "wire")
CODES = {value for name, value in vars(codes).items() if name.isupper()}


def _strings() -> Iterator[tuple[Path, str]]:
    """Every string constant of the product that is no docstring."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(path.read_text())
            said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                    yield path, node.value


def test_codes_that_others_act_on_are_spelled_once() -> None:
    again = {(path, text) for path, text in _strings() if text in CODES and path.stem != "codes"}
    assert not again


def test_paths_are_spelled_once() -> None:
    doors = ("/v1/", "/enclave/v1/")
    assert not {(path, text) for path, text in _strings() if text.startswith(doors) and path.stem != "paths"}


def test_a_value_cannot_leave_its_place_in_a_path() -> None:
    assert paths.JOB_OBJECT.of("ab", "../x?y#z") == "/v1/jobs/ab/objects/..%2Fx%3Fy%23z"
    assert paths.JOB_OBJECT.template == "/v1/jobs/{id}/objects/{name}"
    assert [name for name, _ in paths.DATASET_CHUNK.variables] == ["id", "number"]
