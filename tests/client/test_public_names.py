"""The package's front door: what the documents import is there, and costs nothing until it is used."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeGuard

import pytest

import chiron
from chiron.wire.errors import ChironError

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_PYTHON = re.compile(r"^```(?:python|py|pycon)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MENTIONED = re.compile(r"`(?:chiron\.)?([A-Z][a-z]+(?:[A-Z][a-z]+)+)`")


def examples() -> list[tuple[str, str]]:
    """Every Python example of the documents."""
    return [(path.name, code) for path in DOCUMENTS for code in _PYTHON.findall(path.read_text())]


def test_the_documents_have_examples() -> None:
    assert {name for name, _ in examples()} >= {"README.md", "data-owner.md", "attestation.md"}


@pytest.mark.parametrize(("document", "code"), examples(), ids=lambda value: value.splitlines()[0][:40])
def test_what_an_example_imports_and_names_is_public(document: str, code: str) -> None:
    del document
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "chiron":
            for name in node.names:
                assert name.name in chiron.__all__
        if isinstance(node, ast.ImportFrom | ast.Import):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert not module.startswith("chiron."), "examples use public names only"
    # In comments too: an example says which error it raises.
    for name in re.findall(r"raises (\w+)", code):
        assert name in chiron.__all__


def test_what_the_owners_documents_mention_is_public() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "data-owner.md").read_text()
    mentioned = set(_MENTIONED.findall(text))
    assert {"AsyncClient", "VerifiedEvidence", "GatewayError"} <= mentioned
    assert mentioned <= set(chiron.__all__)


def test_the_three_lists_of_names_are_one() -> None:
    """`__all__`, the imports for type checkers, and the table for the interpreter."""
    assert chiron.__file__ is not None
    tree = ast.parse(Path(chiron.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        node.module: {name.name for name in node.names}
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
    }
    (table,) = (ast.literal_eval(node.value) for node in tree.body if _assigns(node, "_MODULES"))
    assert imported == {module: set(names) for module, names in table.items()}
    assert sorted(name for names in imported.values() for name in names) == sorted(chiron.__all__)
    assert dir(chiron) == sorted(chiron.__all__)
    for name in chiron.__all__:
        assert getattr(chiron, name) is not None


def _assigns(node: ast.stmt, name: str) -> TypeGuard[ast.Assign]:
    return (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
    )


def test_errors_of_the_client_are_public() -> None:
    from chiron.client import errors

    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ChironError)
    }
    assert raised <= set(chiron.__all__)


def test_an_unknown_name_is_refused_as_any_modules() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = chiron.Clinet  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_of_it_and_nothing_heavy() -> None:
    program = (
        "import sys; before = set(sys.modules); import chiron; "
        "print(*sorted(name for name in set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    standard = sys.stdlib_module_names
    assert [name for name in ran.stdout.split() if name.partition(".")[0] not in standard] == ["chiron"]


def test_files_of_an_owner_that_are_named_like_our_rooms_do_no_harm(tmp_path: Path) -> None:
    for name in ("api", "runtime", "ps", "wire", "client", "wasm_sandbox"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the owner's own file was imported')\n")
    program = "from chiron import Client, JobRequest, policy_of, open_source"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
