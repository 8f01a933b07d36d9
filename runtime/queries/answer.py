"""An answer's plaintext: always as long as the job spec says, whatever the policy let through.

Layout: magic (8), request id of the query (16), outcome (4), number of rows (4), classes returned per row
(4), rows that are left to the asker (8), all integers little-endian, then canonical safetensors: of a
classification `classes` and `scores` [query_rows, classes] int32 and float32, best first; of a regression
`scores` [query_rows, *target_shape]. The rest is zero. Then, in room of its own, the JSON of what the
predictor attests that it has answered.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from chiron.runtime.datasets.tensors import Form, TensorLayout
from chiron.runtime.errors import AnswerMalformed, PaddingInvalid, TensorsMalformed
from chiron.runtime.queries.query import REQUEST_ID_BYTES
from chiron.runtime.sealing.padding import pad, unpad
from chiron.wire.contract import Task
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec
from chiron.wire.opening import SignedStatement

MAGIC = b"CHIRONa1"
_HEAD = struct.Struct(f"<8s{REQUEST_ID_BYTES}sIIIQ")
_ANY_NUMBER = 2**64 - 1
STATEMENT_BYTES = 1024
"""Room for a signed statement, of whatever counts."""


class AnswerOutcome(IntEnum):
    """What became of a query; it travels sealed."""

    ANSWERED = 0
    BUDGET_EXHAUSTED = 1
    MODEL_UNUSABLE = 2
    """The job ran its schedule without a usable model; the job's sealed outcome says why."""
    QUERY_MALFORMED = 3
    PREDICTION_FAILED = 4
    PASS_EXPIRED = 5
    PASS_EXHAUSTED = 6
    """The rows of the asker's pass, or those of it that the owner lent to this predictor, do not suffice."""
    TOO_LATE = 7
    """The slot was over before the answer was there."""

    @property
    def code(self) -> str:
        """Stable name."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer as the owner reads it; with any outcome but ANSWERED the arrays are empty."""

    request_id: bytes
    outcome: AnswerOutcome
    scores: NDArray[np.float32]
    """Classification: [rows, returned], best first. Regression: [rows, *target_shape]."""
    classes: NDArray[np.int32] | None = None
    """Classification: [rows, returned] class indices that the scores belong to."""
    statement: SignedStatement | None = None
    """What the predictor had answered by then, this query with it; None where nothing was spent."""
    left: int | None = None
    """Rows that its asker may still be answered under this opening; None is any number."""


def refused(
    spec: JobSpec,
    request_id: bytes,
    outcome: AnswerOutcome,
    statement: SignedStatement | None = None,
    left: int | None = None,
) -> Answer:
    """An answer that only says why there is none."""
    if spec.dataset.task is Task.CLASSIFICATION:
        none = np.zeros((0, 0), np.int32)
        return Answer(request_id, outcome, np.zeros((0, 0), np.float32), none, statement, left)
    scores = np.zeros((0, *spec.dataset.target_shape), np.float32)
    return Answer(request_id, outcome, scores, statement=statement, left=left)


def answered(
    spec: JobSpec,
    request_id: bytes,
    predicted: NDArray[np.float32],
    policy: PredictionPolicy,
    statement: SignedStatement | None = None,
    left: int | None = None,
) -> Answer:
    """What the owner's policy lets through of `predicted` ([rows, classes] scores, or [rows, *target_shape]).

    Classes are ordered by the rounded scores, and equal ones by their number: the order tells nothing more.
    A row with a score that is not finite has none that means anything: all of its scores become NaN.
    """
    rounded = np.round(predicted.astype(np.float64), policy.decimals).astype(np.float32)
    finite = np.isfinite(predicted).all(axis=tuple(range(1, predicted.ndim)), keepdims=True)
    rounded = np.where(finite, rounded, np.float32(np.nan))
    if spec.dataset.task is not Task.CLASSIFICATION:
        return Answer(request_id, AnswerOutcome.ANSWERED, rounded, statement=statement, left=left)
    returned = min(policy.top_k or spec.dataset.classes, spec.dataset.classes)
    order = np.argsort(-rounded, axis=1, kind="stable")[:, :returned].astype(np.int32)
    scores = np.take_along_axis(rounded, order, axis=1)
    return Answer(request_id, AnswerOutcome.ANSWERED, scores, order, statement, left)


def answer_bytes(spec: JobSpec) -> int:
    """Length of every answer's plaintext in this job."""
    return _HEAD.size + _layout(spec).size + STATEMENT_BYTES


def encode_answer(spec: JobSpec, answer: Answer) -> bytes:
    """Plaintext of an answer, `answer_bytes(spec)` long.

    Raises:
        AnswerMalformed: more rows or classes than the job has, or arrays of other types.
    """
    layout = _layout(spec)
    given: dict[str, NDArray[Any]] = {"scores": answer.scores}
    if answer.classes is not None:
        given["classes"] = answer.classes
    try:
        filled = {name: _filled(array, layout.forms[name]) for name, array in given.items()}
        body = layout.dump(filled)
    except (TensorsMalformed, KeyError, ValueError) as error:
        raise AnswerMalformed("the answer does not fit the job") from error
    returned = answer.scores.shape[1] if answer.classes is not None else 0
    left = _ANY_NUMBER if answer.left is None else answer.left
    head = _HEAD.pack(MAGIC, answer.request_id, answer.outcome, len(answer.scores), returned, left)
    said = answer.statement.model_dump_json().encode() if answer.statement is not None else b""
    return head + body + pad(said, STATEMENT_BYTES)


def decode_answer(spec: JobSpec, plaintext: bytes) -> Answer:
    """The answer that `encode_answer` wrote.

    Raises:
        AnswerMalformed: it is not one of this job.
    """
    if len(plaintext) != answer_bytes(spec):
        raise AnswerMalformed("the answer is not as long as this job's answers are")
    magic, request_id, outcome, rows, returned, said = _HEAD.unpack_from(plaintext)
    classifies = spec.dataset.task is Task.CLASSIFICATION
    fits = rows <= spec.query_rows and returned <= (spec.dataset.classes if classifies else 0)
    if magic != MAGIC or not fits or outcome not in iter(AnswerOutcome):
        raise AnswerMalformed("the answer's head is malformed")
    try:
        arrays = _layout(spec).load(plaintext[_HEAD.size : -STATEMENT_BYTES])
    except TensorsMalformed as error:
        raise AnswerMalformed(f"the answer is {error}") from error
    statement = _statement(plaintext[-STATEMENT_BYTES:])
    left = None if said == _ANY_NUMBER else said
    if not classifies:
        scores = arrays["scores"][:rows]
        return Answer(request_id, AnswerOutcome(outcome), scores, statement=statement, left=left)
    classes = arrays["classes"][:rows, :returned]
    if classes.size and not (classes.min() >= 0 and classes.max() < spec.dataset.classes):
        raise AnswerMalformed("the answer names a class that the job does not have")
    scores = arrays["scores"][:rows, :returned]
    return Answer(request_id, AnswerOutcome(outcome), scores, classes, statement, left)


def _statement(padded: bytes) -> SignedStatement | None:
    try:
        said = unpad(padded)
        return SignedStatement.model_validate_json(said) if said else None
    except (PaddingInvalid, ValidationError) as error:
        raise AnswerMalformed("the answer's statement is malformed") from error


def _filled(array: NDArray[Any], form: Form) -> NDArray[Any]:
    filled = np.zeros(form.shape, array.dtype)
    filled[tuple(slice(size) for size in array.shape)] = array
    return filled


def _layout(spec: JobSpec) -> TensorLayout:
    rows, dataset = spec.query_rows, spec.dataset
    if dataset.task is not Task.CLASSIFICATION:
        return TensorLayout({"scores": Form(np.dtype("float32"), (rows, *dataset.target_shape))})
    shape = (rows, dataset.classes)
    return TensorLayout(
        {"scores": Form(np.dtype("float32"), shape), "classes": Form(np.dtype("int32"), shape)}
    )
