"""Links and names in documents lead somewhere."""

import importlib
import re
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, anchors, inline_code, links

ROOMS = (
    "api",
    "builder_kit",
    "builders",
    "chiron",
    "enclave_image",
    "ps",
    "runtime",
    "scripts",
    "wasm_sandbox",
    "wire",
)
OUR_FILE = re.compile(rf"(?:{'|'.join((*ROOMS, 'docs', 'tests'))})/[\w./*-]*")
LABEL = re.compile(r"chiron/v\d+/.*")  # of domain separation, docs/keys.md
OUR_NAME = re.compile(r"chiron(?:\.\w+)+")
SECTION = "chiron.asset"  # of a component


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        if link.text.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.text.partition("#")
        target = (ROOT / document.parent / path).resolve() if path else ROOT / document
        assert target.exists(), f"{link}: {link.text}"
        assert target.is_relative_to(ROOT), f"{link}: {link.text}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), f"{link}: {link.text}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_files_that_are_named_exist(document: Path) -> None:
    for name in inline_code(document):
        if (
            OUR_FILE.fullmatch(name.text)
            and not LABEL.fullmatch(name.text)
            and document.parts[:2] != ("tests", "corpus")
        ):
            assert list(ROOT.glob(name.text.rstrip("/"))), f"{name}: {name.text}"


@pytest.mark.parametrize(
    "document", [document for document in DOCUMENTS if "adr" not in document.parts], ids=str
)
def test_modules_that_are_named_without_their_folder_exist(document: Path) -> None:
    modules = {path.name for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py")}
    for name in inline_code(document):
        assert not re.fullmatch(r"\w+\.py", name.text) or name.text in modules, f"{name}: {name.text}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_python_names_exist(document: Path) -> None:
    for name in inline_code(document):
        if OUR_NAME.fullmatch(name.text) and name.text != SECTION:
            assert _exists(name.text), f"{name}: {name.text}"


def test_documents_that_code_names_exist() -> None:
    for room in (*ROOMS, "tests"):
        for path in (ROOT / room).rglob("*.py"):
            for name in re.findall(r"(?<![\w/])docs/[\w./-]+\.\w+", path.read_text()):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)}: {name}"
            for decision in re.findall(r"(?<![\w/])docs/adr/(\d{4})", path.read_text()):
                assert list((ROOT / "docs" / "adr").glob(f"{decision}-*.md")), f"{path}: {decision}"


def test_every_decision_is_in_the_index() -> None:
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("0*.md"))
    assert [link.text for link in links(Path("docs/adr/README.md"))] == decisions


def _exists(name: str) -> bool:
    """Whether it is a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True
