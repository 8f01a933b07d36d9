"""What the sandbox hands to its worker arrives as it was, to the bit; and only what was granted goes."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chiron.wasm_sandbox.capability_data import Columns, DatasetSample, DatasetStatistics, Granularity
from chiron.wasm_sandbox.codec import Frame, Kind
from chiron.wasm_sandbox.commands import (
    CompileCommand,
    dump,
    dump_sample,
    dump_statistics,
    load_compile,
    load_run,
    load_statistics,
)
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import CapabilityNotGranted, Code, SandboxError, SandboxFailed
from chiron.wasm_sandbox.reports import FailureReport, failure_in, parse
from chiron.wasm_sandbox.sandbox import run_command
from chiron.wire.contract import Trial, TrialOutcome
from tests.wasm_sandbox.conftest import EVERYTHING, NOTHING, QUICK, REQUEST, data

FLOATS = st.floats(width=32)


def vectors(length: int) -> st.SearchStrategy[Any]:
    return arrays.arrays(np.float32, length, elements=FLOATS)


@st.composite
def statistics(draw: st.DrawFn) -> DatasetStatistics:
    columns, levels, targets, classes = (draw(st.integers(0, 5)) for _ in range(4))
    return DatasetStatistics(
        granularity=draw(st.sampled_from(Granularity)),
        inputs=Columns(*(draw(vectors(columns)) for _ in range(4))),
        quantile_levels=draw(vectors(levels)),
        input_quantiles=draw(arrays.arrays(np.float32, (levels, columns), elements=FLOATS)),
        targets=Columns(*(draw(vectors(targets)) for _ in range(4))),
        class_counts=draw(arrays.arrays(np.uint64, classes)),
    )


def same(found: list[float], given_array: Any) -> bool:
    return np.array_equal(np.asarray(found, np.float32), given_array, equal_nan=True)


@given(statistics())
def test_statistics_arrive_as_they_were(told: DatasetStatistics) -> None:
    form, content = dump_statistics(told)
    lists = load_statistics(form, content)
    assert lists.granularity == told.granularity
    for found, columns in ((lists.inputs, told.inputs), (lists.targets, told.targets)):
        assert same(found["mean"], columns.mean)
        assert same(found["standard-deviation"], columns.standard_deviation)
        assert same(found["minimum"], columns.minimum)
        assert same(found["maximum"], columns.maximum)
    assert same(lists.levels, told.quantile_levels)
    assert all(same(found, row) for found, row in zip(lists.quantiles, told.input_quantiles, strict=True))
    assert lists.counts == told.class_counts.tolist()


@given(statistics(), st.integers(-9, 9).filter(bool))
def test_bytes_that_are_not_of_the_form_are_refused(told: DatasetStatistics, change: int) -> None:
    form, content = dump_statistics(told)
    other = content[:change] if change < 0 and content else content + bytes(abs(change))
    with pytest.raises(struct.error):
        load_statistics(form, other)


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_a_sample_goes_as_little_endian_rows(dtype: str) -> None:
    inputs = np.arange(6, dtype=np.float32).reshape(3, 2).astype(dtype)
    sizes, content = dump_sample(DatasetSample(inputs, np.array([5, 6, 7], ">i8")))
    assert sizes == (3, 8, 8)
    assert content == np.arange(6, dtype="<f4").tobytes() + np.array([5, 6, 7], "<i8").tobytes()


def test_an_empty_sample_goes_too() -> None:
    sizes, content = dump_sample(DatasetSample(np.zeros((0, 2), np.uint8), np.zeros(0, np.int64)))
    assert (sizes, content) == ((0, 0, 0), b"")


def test_terms_arrive_as_they_were() -> None:
    compiling = CompileCommand("pulley", 1, True, 2, False)
    assert load_compile(dump(compiling)) == compiling
    trial = Trial(
        number=1,
        outcome=TrialOutcome.DIVERGED,
        validation_loss=1e300,
        validation_score=0.1,
        recipe='"\u2028\\',
    )
    options: dict[str, Any] = {"limits": QUICK, "backend": Backend.PULLEY, "keep_log": True}
    terms, (content, sample) = run_command(REQUEST, [trial], EVERYTHING, data(), seed=2**63 - 1, **options)
    loaded = load_run(dump(terms))
    assert json.loads(dump(loaded)) == json.loads(dump(terms))
    assert loaded.statistics is not None
    assert load_statistics(loaded.statistics, content).counts == [20, 1, 2**40]
    assert loaded.history[0]["recipe"] == '"\u2028\\'
    assert len(sample) == 3 * (4 + 8)


def test_what_was_not_granted_does_not_go() -> None:
    options: dict[str, Any] = {"limits": QUICK, "backend": Backend.PULLEY, "keep_log": False}
    terms, parts = run_command(REQUEST, None, NOTHING, data(), seed=0, **options)
    assert (terms.shape, terms.statistics, terms.sample, terms.granted) == ({}, None, None, ())
    assert parts == (b"", b"")
    assert b"41" not in dump(terms)  # The number of examples.


CONFINED = {"landlock": False, "seccomp": True}


def failed(**fields: object) -> Frame:
    report = {"code": "builder-trapped", "detail": "", "log_lines": 0, "confinement": CONFINED, **fields}
    return Frame(Kind.FAILED, (json.dumps(report).encode(),))


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "no-such-code"}, {"code": None}, {"detail": "x" * 2001}, {"detail": 7}, {"more": 1},
        {"log_lines": -1}, {"log": [["shout", "x"]]}, {"log": [["info"]]}, {"confinement": {}},
    ],
)  # fmt: skip
def test_a_report_that_is_not_of_its_schema_is_a_broken_protocol(fields: dict[str, object]) -> None:
    with pytest.raises(SandboxFailed) as refused:
        failure_in(failed(**fields))
    assert refused.value.code == Code.SANDBOX_PROTOCOL


@pytest.mark.parametrize(
    ("code", "detail"),
    [("sandbox-hung", ""), ("cache-unsafe", ""), ("capability-not-granted", "a `made up` one")],
)
def test_a_worker_may_not_say_what_is_not_its_to_say(code: str, detail: str) -> None:
    report = failure_in(failed(code=code, detail=detail))
    assert report is not None
    assert report.error().code == Code.SANDBOX_PROTOCOL


def test_a_failure_becomes_the_error_of_its_code() -> None:
    report = failure_in(failed(code="capability-not-granted", detail="random"))
    assert report is not None
    error = report.error()
    assert isinstance(error, CapabilityNotGranted)
    assert error.capability == "random"


@given(st.binary(max_size=200))
def test_any_bytes_are_no_report(content: bytes) -> None:
    with pytest.raises(SandboxError):
        parse(FailureReport, content)
