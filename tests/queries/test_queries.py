"""Queries and answers: of one size a job, for one reader only, and refused if malformed."""

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from chiron.runtime.errors import (
    AnswerMalformed,
    AnswerUnreadable,
    QueryMalformed,
    QueryUnreadable,
    RowsInvalid,
)
from chiron.runtime.queries import (
    OWNER,
    Answer,
    AnswerOutcome,
    Query,
    answered,
    decode_answer,
    decode_query,
    encode_answer,
    encode_query,
    open_answer,
    open_query,
    refused,
    seal_answer,
    seal_query,
)
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES, PrivateKey
from chiron.wire.contract import Task
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec
from tests.support.specs import dataset_manifest, job_spec

ROWS = 4
ID = bytes(range(16))
SIGNING_KEY = Ed25519PrivateKey.generate()
ASKERS = {OWNER: SIGNING_KEY.public_key().public_bytes_raw()}


def job_for(task: Task = Task.CLASSIFICATION, **changes: Any) -> JobSpec:
    classifies = task is Task.CLASSIFICATION
    shape = {"target_shape": () if classifies else (2,), "classes": 5 if classifies else 0}
    spec = job_spec(dataset=dataset_manifest(task=task, **shape), query_rows=ROWS)
    return spec.model_copy(update=changes)


SPEC = job_for()
INPUTS = hnp.arrays(np.float32, st.tuples(st.integers(1, ROWS), st.just(2), st.just(3)))


@settings(max_examples=40, deadline=None)
@given(INPUTS, st.binary(min_size=16, max_size=16))
def test_a_query_round_trips_at_one_size_whatever_it_asks(x: NDArray[np.float32], request_id: bytes) -> None:
    query = Query(x, bytes(PUBLIC_KEY_BYTES), request_id)
    plaintext = encode_query(SPEC, query)
    assert len(plaintext) == len(
        encode_query(SPEC, Query(np.zeros((1, 2, 3), np.float32), bytes(PUBLIC_KEY_BYTES), ID))
    )
    decoded = decode_query(SPEC, plaintext)
    np.testing.assert_array_equal(decoded.x, x)
    assert (decoded.request_id, decoded.reply_public_key) == (request_id, query.reply_public_key)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((0, 2, 3), np.float32),
        np.zeros((ROWS + 1, 2, 3), np.float32),
        np.zeros((1, 3, 2), np.float32),
        np.zeros((1, 2, 3), np.uint8),
        np.zeros((1, 2, 3), np.float64),
    ],
)
def test_rows_that_are_not_the_jobs_inputs_are_refused(x: NDArray[Any]) -> None:
    with pytest.raises(RowsInvalid):
        encode_query(SPEC, Query(x, bytes(PUBLIC_KEY_BYTES), ID))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_altered_query_is_refused_or_is_another_query(data: st.DataObject) -> None:
    """Past the seal only a client of the owner can alter it; the parser must still never fail otherwise."""
    plaintext = bytearray(
        encode_query(SPEC, Query(np.ones((2, 2, 3), np.float32), bytes(PUBLIC_KEY_BYTES), ID))
    )
    plaintext[data.draw(st.integers(0, len(plaintext) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_query(SPEC, bytes(plaintext))
    except QueryMalformed:
        return
    assert encode_query(SPEC, decoded) == bytes(plaintext)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=2000))
def test_bytes_that_are_no_query_or_answer_are_refused(data: bytes) -> None:
    with pytest.raises(QueryMalformed):
        decode_query(SPEC, data)
    with pytest.raises(AnswerMalformed):
        decode_answer(SPEC, data)


def test_hidden_rows_and_foreign_sizes_are_refused() -> None:
    full = encode_query(SPEC, Query(np.ones((2, 2, 3), np.float32), bytes(PUBLIC_KEY_BYTES), ID))
    one_row = full[:40] + (1).to_bytes(4, "little") + full[44:]
    no_rows = full[:40] + bytes(4) + full[44:]
    for plaintext in (one_row, no_rows, full + b"\0", full[:-1]):
        with pytest.raises(QueryMalformed):
            decode_query(SPEC, plaintext)


SCORES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, ROWS), st.just(5)),
    elements={"min_value": 0, "max_value": 1},
)


@settings(max_examples=40, deadline=None)
@given(SCORES, st.integers(0, 7), st.integers(0, 6))
def test_an_answer_tells_what_the_policy_lets_through_at_one_size(
    scores: NDArray[np.float32], top_k: int, decimals: int
) -> None:
    answer = answered(SPEC, ID, scores, PredictionPolicy(top_k=top_k, decimals=decimals))
    plaintext = encode_answer(SPEC, answer)
    assert len(plaintext) == len(encode_answer(SPEC, refused(SPEC, ID, AnswerOutcome.BUDGET_EXHAUSTED)))
    decoded = decode_answer(SPEC, plaintext)
    assert decoded.outcome is AnswerOutcome.ANSWERED
    assert decoded.classes is not None
    told = min(top_k or 5, 5)
    assert decoded.scores.shape == decoded.classes.shape == (len(scores), told)
    assert (np.diff(decoded.scores, axis=1) <= 0).all()
    exact = np.take_along_axis(scores, decoded.classes, 1)
    np.testing.assert_allclose(decoded.scores, exact, rtol=0, atol=0.5 * 10**-decimals + 1e-6)
    steps = decoded.scores.astype(np.float64) * 10**decimals
    np.testing.assert_allclose(steps, steps.round(), rtol=1e-6)
    # By the rounded scores, and equal ones by their number: the order tells nothing that rounding hides.
    rounded = np.round(scores.astype(np.float64), decimals).astype(np.float32)
    np.testing.assert_array_equal(decoded.classes, np.argsort(-rounded, axis=1, kind="stable")[:, :told])


def test_a_refusal_round_trips_and_says_nothing_else() -> None:
    for outcome in AnswerOutcome:
        decoded = decode_answer(SPEC, encode_answer(SPEC, refused(SPEC, ID, outcome)))
        assert (decoded.outcome, decoded.scores.size) == (outcome, 0)
    assert AnswerOutcome.BUDGET_EXHAUSTED.code == "budget-exhausted"


def test_a_regression_is_answered_in_its_targets_shape() -> None:
    spec = job_for(Task.REGRESSION)
    predicted = np.array([[1.26, 2.0], [3.0, -4.04]], np.float32)
    decoded = decode_answer(
        spec, encode_answer(spec, answered(spec, ID, predicted, PredictionPolicy(decimals=1)))
    )
    assert decoded.classes is None
    np.testing.assert_allclose(decoded.scores, [[1.3, 2.0], [3.0, -4.0]], rtol=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(
            ID, AnswerOutcome.ANSWERED, np.zeros((ROWS + 1, 5), np.float32), np.zeros((ROWS + 1, 5), np.int32)
        ),
        Answer(ID, AnswerOutcome.ANSWERED, np.zeros((1, 6), np.float32), np.zeros((1, 6), np.int32)),
        Answer(ID, AnswerOutcome.ANSWERED, np.zeros((1, 5), np.float32)),
        Answer(ID, AnswerOutcome.ANSWERED, np.zeros((1, 5), np.float64), np.zeros((1, 5), np.int32)),
    ],
)
def test_an_answer_that_does_not_fit_the_job_is_not_written(answer: Answer) -> None:
    with pytest.raises(AnswerMalformed):
        encode_answer(SPEC, answer)


def test_an_answer_with_an_impossible_head_or_class_is_refused() -> None:
    scores = np.eye(5, dtype=np.float32)[:2]
    good = encode_answer(SPEC, answered(SPEC, ID, scores, PredictionPolicy()))
    too_many_rows = good[:28] + (ROWS + 1).to_bytes(4, "little") + good[32:]
    too_many_classes = good[:32] + (6).to_bytes(4, "little") + good[36:]
    unknown_outcome = good[:24] + (99).to_bytes(4, "little") + good[28:]
    foreign_class = encode_answer(
        SPEC, Answer(ID, AnswerOutcome.ANSWERED, np.ones((1, 1), np.float32), np.array([[5]], np.int32))
    )
    for plaintext in (too_many_rows, too_many_classes, unknown_outcome, foreign_class, good[:-1]):
        with pytest.raises(AnswerMalformed):
            decode_answer(SPEC, plaintext)


def test_sealed_queries_and_answers_go_only_to_the_one_they_are_for() -> None:
    predictor, other = PrivateKey.generate(), PrivateKey.generate()
    x = np.ones((2, 2, 3), np.float32)
    pending = seal_query(SPEC, x, predictor.public_bytes, SIGNING_KEY)
    for key, spec in ((other, SPEC), (predictor, job_for(job="c" * 32))):
        with pytest.raises(QueryUnreadable):
            open_query(spec, pending.sealed, key, ASKERS.get)
    query = open_query(SPEC, pending.sealed, predictor, ASKERS.get)
    np.testing.assert_array_equal(query.x, x)
    sealed = seal_answer(
        SPEC, query, answered(SPEC, query.request_id, np.zeros((2, 5), np.float32), PredictionPolicy())
    )
    assert open_answer(SPEC, pending, sealed).outcome is AnswerOutcome.ANSWERED
    another = seal_query(SPEC, x, predictor.public_bytes, SIGNING_KEY)
    for wrong in (another, another._replace(reply_key=pending.reply_key), pending._replace(reply_key=other)):
        with pytest.raises(AnswerUnreadable):
            open_answer(SPEC, wrong, sealed)


def test_sealed_sizes_depend_on_the_job_spec_alone() -> None:
    predictor = PrivateKey.generate()
    one = seal_query(SPEC, np.zeros((1, 2, 3), np.float32), predictor.public_bytes, SIGNING_KEY)
    rows = np.random.default_rng(0).normal(size=(ROWS, 2, 3)).astype(np.float32)
    full = seal_query(SPEC, rows, predictor.public_bytes, SIGNING_KEY)
    assert len(one.sealed) == len(full.sealed)
    query = open_query(SPEC, one.sealed, predictor, ASKERS.get)
    answer = answered(SPEC, query.request_id, np.ones((1, 5), np.float32), PredictionPolicy(top_k=1))
    exhausted = refused(SPEC, query.request_id, AnswerOutcome.BUDGET_EXHAUSTED)
    assert len(seal_answer(SPEC, query, answer)) == len(seal_answer(SPEC, query, exhausted))
