"""Every input that once was damaged without a word, or ended in a traceback, is right or clearly refused."""

import pytest

from tests.support.cases import CASES, Case, Verdict, cases, try_data


@pytest.mark.parametrize("case", [*cases("tables"), *cases("arrays")], ids=str)
def test_data_are_right_or_clearly_refused(case: Case) -> None:
    verdict, why = try_data(CASES / "inputs", case)
    assert verdict is (Verdict.CLEAR_REFUSAL if "refused" in case.wanted else Verdict.RIGHT), why
