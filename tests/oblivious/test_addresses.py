"""What has no form without addresses from data is refused by its name; everything else has one."""

import re
from pathlib import Path

import pytest

from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.rewrites.editing import rewrite_with
from chiron.runtime.training.rewrites.strict import nothing_by_address
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.admission.addresses import ADDRESSES, BESIDE_GRAPHS
from chiron.wasm_sandbox.admission.operators import OPERATORS
from chiron.wasm_sandbox.errors import GraphRefused
from chiron.wire.contract import Envelope, Oblivious
from tests.oblivious import cases

CONTRACT = (Path(__file__).resolve().parents[2] / "docs" / "graph-contract.md").read_text()


def test_the_tables_are_those_of_the_contract() -> None:
    rows = [f"| `{name}` | {' | '.join(row)} |" for name, row in sorted(ADDRESSES.items())]
    rows += [f"| {name} | {' | '.join(row)} |" for name, row in BESIDE_GRAPHS.items()]
    section = CONTRACT.split("## Addresses", 1)[1].split("\n## ", 1)[0]
    written = [line for line in section.splitlines() if re.match(r"\| (?!-|operator|part)", line)]
    assert [line for line in written if not line.startswith("|---")] == rows


def test_the_table_names_operators_only() -> None:
    assert ADDRESSES.keys() <= OPERATORS.keys()


@pytest.mark.parametrize("operands", [("Sin", "x"), ("Cos", "x"), ("Log", "x"), ("Pow", "x", "input")])
def test_an_operator_without_a_strict_form_is_refused_by_name(operands: tuple[str, ...]) -> None:
    operator, *inputs = operands
    data, request = cases.with_node(operator, inputs)
    envelope = Envelope(max_parameters=cases.PARAMETERS)
    admit(data, request, envelope)
    with pytest.raises(GraphRefused) as refused:
        admit(data, request, envelope, oblivious=Oblivious.STRICT)
    assert (refused.value.code, refused.value.detail) == ("addresses-depend-on-data", operator)


def test_what_admission_let_pass_is_refused_once_more_before_it_runs() -> None:
    words = cases.words(Oblivious.CLAMPED).graph.forward
    with pytest.raises(TrainingFailed) as failed:
        rewrite_with(words, nothing_by_address)
    assert failed.value.code == "addresses-depend-on-data"
