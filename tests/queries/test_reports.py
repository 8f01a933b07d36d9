"""Reports and the outcome: of one size whatever they say, and for the owner only."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chiron.runtime.errors import OpenFailed
from chiron.runtime.reports import open_outcome, open_report, seal_outcome, seal_report
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire import objects
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport

JOB = "a" * 32
OWNER = PrivateKey.generate()
METRIC = st.none() | st.floats(allow_nan=False, allow_infinity=False)
REPORTS = st.builds(
    TrainingReport,
    exchange=st.integers(0, 100_000),
    trial=st.integers(0, 63),
    train_loss=METRIC,
    train_accuracy=METRIC,
    validation_loss=METRIC,
    validation_accuracy=METRIC,
    diverged=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(REPORTS)
def test_a_report_round_trips_at_one_size(report: TrainingReport) -> None:
    sealed = seal_report(report, job=JOB, owner_public_key=OWNER.public_bytes)
    assert len(sealed) == len(
        seal_report(TrainingReport(exchange=0), job=JOB, owner_public_key=OWNER.public_bytes)
    )
    assert open_report(sealed, report.exchange, job=JOB, owner_key=OWNER) == report


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(OutcomeStatus), st.text(max_size=5000), st.none() | REPORTS)
def test_an_outcome_round_trips_at_one_size(
    status: OutcomeStatus, detail: str, metrics: TrainingReport | None
) -> None:
    outcome = Outcome(status=status, code="builder-trapped", detail=detail, metrics=metrics)
    assert outcome.detail == detail or len(outcome.detail.encode()) <= 2000
    sealed = seal_outcome(outcome, job=JOB, owner_public_key=OWNER.public_bytes)
    plain = Outcome(status=OutcomeStatus.TRAINED)
    assert len(sealed) == len(seal_outcome(plain, job=JOB, owner_public_key=OWNER.public_bytes))
    assert open_outcome(sealed, job=JOB, owner_key=OWNER) == outcome


@pytest.mark.parametrize("detail", ["\x01" * 2000, '"' * 2000, "\\" * 2000, "\u202e" * 2000, "ü" * 2000])
def test_no_detail_overflows_an_outcome_or_moves_a_cursor(detail: str) -> None:
    outcome = Outcome(status=OutcomeStatus.BUILDER_REFUSED, code="builder-trapped", detail=detail)
    assert outcome.detail.isprintable()
    sealed = seal_outcome(outcome, job=JOB, owner_public_key=OWNER.public_bytes)
    assert open_outcome(sealed, job=JOB, owner_key=OWNER) == outcome


def test_a_report_opens_only_for_its_owner_job_and_exchange() -> None:
    sealed = seal_report(TrainingReport(exchange=3), job=JOB, owner_public_key=OWNER.public_bytes)
    for exchange, job, key in ((2, JOB, OWNER), (3, "b" * 32, OWNER), (3, JOB, PrivateKey.generate())):
        with pytest.raises(OpenFailed):
            open_report(sealed, exchange, job=job, owner_key=key)
    with pytest.raises(OpenFailed):
        open_outcome(sealed, job=JOB, owner_key=OWNER)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_not_written(loss: float) -> None:
    with pytest.raises(ValidationError):
        TrainingReport(exchange=0, train_loss=loss)


def test_report_objects_sort_by_name() -> None:
    assert [objects.report(number).name for number in (0, 12, 9999)] == [
        "report-0000",
        "report-0012",
        "report-9999",
    ]
