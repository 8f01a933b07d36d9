"""Tests hold the product, and each other, by public names: an underscore begins what is a folder's own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PUBLIC_ALL_THE_SAME = {
    "_replace": "documented of named tuples, whose field names it must not clash with",
    "_exit": "documented of the module `os`",
    "_fork_exec": "of `subprocess`: that nothing forks shows nowhere else",
}


def _is_private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def _named(node: ast.AST) -> Iterator[str]:
    """What one node reaches into: a module's name, an object's attribute, or either by a string."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("chiron", "tests")):
        yield from (node.module or "").split(".")
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Attribute) and not _is_own(node.value):
        yield node.attr
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("getattr", "setattr", "delattr", "patch"):
            texts = (argument.value for argument in node.args if isinstance(argument, ast.Constant))
            yield from (part for text in texts if isinstance(text, str) for part in text.split("."))


def _is_own(value: ast.expr) -> bool:
    """Whether it is the object or class that the code itself belongs to."""
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_reaches_into_no_private_name(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text()))
    found = {name for node in nodes for name in _named(node) if _is_private(name)}
    assert found <= PUBLIC_ALL_THE_SAME.keys()


def _folders_imported(path: Path) -> Iterator[str]:
    """The folders of tests that a file imports from, "" for `tests` itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name.split(".")[1] for name in whole)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_what_two_folders_of_tests_share_is_in_support_or_the_corpus(path: Path) -> None:
    own = path.relative_to(TESTS).parts[0]
    assert set(_folders_imported(path)) <= {own, "support", "corpus"}


def test_every_exception_is_still_needed() -> None:
    text = "".join(path.read_text() for path in TESTS.rglob("*.py") if path != Path(__file__))
    assert all(name in text for name in PUBLIC_ALL_THE_SAME)
