"""Which packages a room imports, against what `pyproject.toml` says that it needs."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chiron.enclave_image.contents import OUR_ROOMS
from tests.package.building import PROJECT, ROOT, tracked

DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = DECLARED["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()
PROGRAMS_FOR_COMPONENTS = ("builder_kit/chiron_builder/", "builder_kit/templates/")
WITHOUT_IMPORT = {
    "aiosqlite",  # SQLAlchemy's driver
    "componentize-py",  # a program
    "greenlet",  # SQLAlchemy's coroutines
    "ziglang",  # a program
}
SHIPPED = ("enclave", "operator", "builder", "images", "tables", "demo")


def _names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def _imported(*rooms: str) -> set[str]:
    """Distributions that modules of these rooms import, at whatever place in them."""
    return {
        canonicalize_name(DISTRIBUTIONS[name][0])
        for path in tracked()
        if path.suffix == ".py" and str(path).startswith(tuple(f"{room}/" for room in rooms))
        if not str(path).startswith(PROGRAMS_FOR_COMPONENTS)
        for name in _modules(ROOT / path)
        if name not in sys.stdlib_module_names and name != "chiron"
    }


def _modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.partition(".")[0]


def test_the_enclaves_list_is_complete_and_has_nothing_more() -> None:
    assert _imported(*OUR_ROOMS) == _names(EXTRAS["enclave"])


def test_everything_that_is_imported_is_in_the_base_or_an_extra() -> None:
    rooms = [path.name for path in (ROOT / "chiron").iterdir() if path.is_symlink()]
    declared = _names(DECLARED["dependencies"]).union(*(_names(EXTRAS[extra]) for extra in SHIPPED))
    assert _imported("chiron", *rooms) == declared - WITHOUT_IMPORT - {PROJECT}


@pytest.mark.parametrize("extra", EXTRAS)
def test_bounds_are_said_once(extra: str) -> None:
    """What the client needs as well has its bounds there."""
    again = [Requirement(text) for text in EXTRAS[extra] if _names([text]) & _names(DECLARED["dependencies"])]
    assert [str(requirement) for requirement in again if requirement.specifier] == []


def test_the_one_lock_has_all_but_the_benchmarks() -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    wanted = _names(DECLARED["dependencies"]).union(
        *(_names(requirements) for extra, requirements in EXTRAS.items() if extra != "bench")
    )
    assert wanted - {PROJECT} <= locked
    assert "torch" not in locked
