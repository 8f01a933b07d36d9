"""One root for all errors, each with a stable code."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

import chiron
from chiron.wire.errors import ChironError

ELSEWHERE = ("chiron.builder_kit.chiron_builder", "chiron.builder_kit.templates")
"""Compiled into builders, where there is nothing else of ours."""


def _errors() -> Iterator[type[BaseException]]:
    for found in pkgutil.walk_packages(chiron.__path__, "chiron."):
        if found.name.startswith(ELSEWHERE) or "__main__" in found.name:
            continue
        module = importlib.import_module(found.name)
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, BaseException) and value.__module__ == found.name:
                yield value


@pytest.mark.parametrize("error", sorted(set(_errors()), key=str))
def test_error_hangs_from_the_one_root_and_has_a_code(error: type[BaseException]) -> None:
    assert issubclass(error, ChironError)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|internal|unauthenticated|forbidden|overloaded", error.code)
