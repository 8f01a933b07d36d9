"""Graphs that make a kernel read or write out of bounds, divide by zero or end the process: none does."""

import json

import pytest

from tests.corpus.components import CORPUS
from tests.support.whole_way import go

KERNELS = CORPUS / "kernels"
ENDINGS: dict[str, str] = json.loads((KERNELS / "endings.json").read_text())


@pytest.mark.parametrize("name", sorted(ENDINGS))
def test_a_graph_at_the_edge_of_a_kernel_ends_as_it_is_known_to(name: str) -> None:
    assert go((KERNELS / f"{name}.onnx").read_bytes()) == ENDINGS[name]


def test_every_graph_has_an_ending() -> None:
    assert {path.stem for path in KERNELS.glob("*.onnx")} == set(ENDINGS)

    assert not any(ending.startswith("found") for ending in ENDINGS.values())
