"""Each row of the threat model's table of attackers names the tests that hold it."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def _rows() -> list[str]:
    text = (ROOT / "docs/threat-model.md").read_text()
    section = text.split("## What each attacker meets\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


ROWS = _rows()


def test_the_table_is_found() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_row_names_a_test_that_exists(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "no test is named: write one, and name it in the row"
    for path, function in named:
        assert Path(path).name.startswith("test_"), path
        assert "def test_" in (ROOT / path).read_text(), path
        assert not function or f"def {function}(" in (ROOT / path).read_text(), function
