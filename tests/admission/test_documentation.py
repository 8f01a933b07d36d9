"""docs/graph-contract.md says what the tables say."""

import re
from pathlib import Path

from chiron.wasm_sandbox.admission import SENTENCES, GraphLimits
from chiron.wasm_sandbox.admission.operators import INITIALIZERS, OPERATORS, Part

CONTRACT = (Path(__file__).resolve().parents[2] / "docs" / "graph-contract.md").read_text()


def _named(title: str) -> list[str]:
    """Operators in the paragraph after the line that begins so."""
    paragraph = CONTRACT.split(title, 1)[1].split("\n\n")[1]
    return re.findall(r"`(\w+)`", paragraph)


def test_the_operators_are_those_of_the_tables() -> None:
    trained = sorted(name for name, operator in OPERATORS.items() if operator.part is Part.TRAINED)
    assert _named("Where a value depends on a parameter") == trained
    assert _named("Elsewhere") == sorted(OPERATORS.keys() - set(trained))
    assert _named("In the initialization graph") == sorted(INITIALIZERS)


def test_the_refusals_are_all_listed_with_their_sentences() -> None:
    assert dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", CONTRACT, re.MULTILINE)) == SENTENCES


def test_the_bounds_are_the_defaults() -> None:
    limits = GraphLimits()
    for number in (limits.nodes, limits.fields, limits.constant_elements):
        assert f"{number:,}" in CONTRACT
    assert f"example | {limits.activation_bytes_per_example // 2**20} MiB" in CONTRACT
    assert f"batch | {limits.activation_bytes_fixed // 2**20} MiB" in CONTRACT
