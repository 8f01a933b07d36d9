"""The builder is the operator's secret: what its owner is sealed says nothing of recipe or graph."""

import pytest

from chiron.runtime.roles.selection import Selection
from chiron.wasm_sandbox.errors import SENTENCES, Code, failure
from chiron.wire.reports import Outcome, TrainingReport

METRICS = {"train_loss", "train_accuracy"} | {
    f"validation_{name}" for name in ("loss", "accuracy", "top5", "auc", "f1", "rmse", "r2")
}


def test_a_report_holds_metrics_and_its_place_in_the_schedule_only() -> None:
    schedule = {"exchange", "trial", "slot_s", "late_slots", "given_up"}
    assert set(TrainingReport.model_fields) == METRICS | schedule | {"version", "diverged"}


def test_an_outcome_holds_a_status_a_code_and_metrics_only() -> None:
    assert set(Outcome.model_fields) == {"version", "status", "code", "detail", "metrics"}


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.CAPABILITY_NOT_GRANTED])
def test_a_refused_plan_is_told_by_its_code_and_fixed_sentence(code: Code) -> None:
    selection = Selection()
    selection.refused(failure(code, detail="node conv3_secret: kernel 7x7, learning rate 0.3"))
    outcome = selection.outcome
    assert outcome.code == str(code)
    assert outcome.detail == SENTENCES[code]
    assert "secret" not in outcome.model_dump_json()
