"""Predictions: rows go to a verified predictor in sealed queries of one size; its answers become a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from chiron.client.attested import check_follows, order
from chiron.client.errors import AnswerRefused, GatewayMisbehaved, ScoresNotFinite, SpecMismatch
from chiron.client.gateway_session import GatewaySession, each
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.errors import RowsInvalid, StatementInvalid
from chiron.runtime.openings import check_signed
from chiron.runtime.queries import OWNER, Answer, AnswerOutcome, open_answer, seal_query
from chiron.wire import paths
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import SealedMessage
from chiron.wire.encoding import Identifier, sha256_hex
from chiron.wire.jobs import JobSpec
from chiron.wire.opening import SignedStatement

_WORDS = {
    AnswerOutcome.BUDGET_EXHAUSTED: "the grant's query budget is used up",
    AnswerOutcome.MODEL_UNUSABLE: "the job ended without a usable model: its outcome says why",
    AnswerOutcome.QUERY_MALFORMED: "the predictor could not read the query",
    AnswerOutcome.PREDICTION_FAILED: "the model failed on these rows",
    AnswerOutcome.PASS_EXPIRED: "the pass has expired: ask its owner for another",
    AnswerOutcome.PASS_EXHAUSTED: "the pass is used up: ask its owner for another",
    AnswerOutcome.TOO_LATE: (
        "the answer was not there by the end of its slot: ask again; if it stays so, the operator's machine "
        "is overloaded, or the builder's manifest says too few answer_seconds"
    ),
}


Advance = Callable[[int, int], None]
"""Called with what is done and what there is to do."""
OnAnswer = Callable[[int, "Predictions"], None]
"""Called with the number of a first row, and the answers from there on."""
PARALLEL_QUERIES = 3
"""So that the predictor has a query at hand while an answer travels."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictor's answers: for each row, what the owner's policy lets through."""

    scores: NDArray[np.float32]
    """Classification: [rows, told], best first. Regression: `[rows, *target_shape]`."""
    classes: NDArray[np.int32] | None = None
    """Classification: [rows, told] class indices that the scores belong to."""
    class_names: tuple[str, ...] = ()

    @property
    def told(self) -> NDArray[np.bool_]:
        """Which rows have an answer: all of their scores are finite."""
        finite: NDArray[np.bool_] = np.isfinite(self.scores)
        return np.asarray(finite.reshape(len(self.scores), -1).all(axis=1), np.bool_)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Best class of each row; -1 where there is no answer. Only a classification has classes."""
        if self.classes is None:
            raise AnswerRefused("a regression has no classes", code="no-classes")
        return np.where(self.told, self.classes[:, 0], -1).astype(np.int32)

    @property
    def names(self) -> list[str]:
        """Best class of each row by name, or by number where the owner named none; "" without an answer."""
        return ["" if label < 0 else self.name_of(label) for label in self.labels.tolist()]

    def name_of(self, index: int) -> str:
        """A class by name, or by number where the owner named none."""
        return self.class_names[index] if self.class_names else str(index)

    def __len__(self) -> int:
        return len(self.scores)


def joined(answers: Sequence[Answer], class_names: tuple[str, ...]) -> Predictions:
    """Answers to consecutive queries as one table.

    Raises:
        AnswerRefused: one of them is a refusal.
    """
    for answer in answers:
        if answer.outcome is not AnswerOutcome.ANSWERED:
            left = f" ({answer.left} rows are left)" if answer.left is not None else ""
            raise AnswerRefused(_WORDS[answer.outcome] + left, code=answer.outcome.code)
    classes = [answer.classes for answer in answers if answer.classes is not None]
    return Predictions(
        scores=np.concatenate([answer.scores for answer in answers]),
        classes=np.concatenate(classes) if classes else None,
        class_names=class_names,
    )


def refuse_not_finite(x: NDArray[Any]) -> None:
    """Refuse rows that no model has an answer for, before they are sent.

    Raises:
        RowsInvalid: a number is NaN or infinite; the message names its row and input, from 0.
    """
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, *place = np.argwhere(~np.isfinite(x))[0].tolist()
        at = place[0] if len(place) == 1 else place
        raise RowsInvalid(f"row {row}, input {at}: missing or not a finite number", code="rows-not-finite")


@dataclass(frozen=True)
class Inquirer:
    """As whom a job's predictor is asked: its model's owner, or the holder of a pass."""

    spec: JobSpec
    signing_key: Ed25519PrivateKey = field(repr=False)
    """Signs the queries."""
    asker: Identifier = OWNER
    """The pass's id, where it is the holder of one."""
    class_names: tuple[str, ...] = ()
    """The classes of the answers, by number."""


class PredictorSession:
    """One verified predictor of one job."""

    def __init__(
        self,
        gateway: GatewaySession,
        inquirer: Inquirer,
        verified: VerifiedEvidence,
        write_ahead: Callable[[int], None] | None = None,
        *,
        attested: SignedStatement | None = None,
        keep: Callable[[SignedStatement], None] | None = None,
    ) -> None:
        """`write_ahead` is called with the number of rows before they are asked for.

        `attested` is what this predictor attested last in an earlier session: it cannot go back behind that.
        `keep` is called with what it attested last, after rows were asked.

        Raises:
            SpecMismatch: the evidence is not of this job's predictor.
        """
        claims = verified.claims
        job = inquirer.spec.job
        if claims.role is not Role.PREDICTOR or claims.job != job or not claims.hpke_public_key:
            raise SpecMismatch("the evidence is not of this job's predictor")
        self.verified = verified
        self._key = claims.hpke_public_key
        self._gateway = gateway
        self._inquirer = inquirer
        self._write_ahead = write_ahead or (lambda _: None)
        self._keep = keep or (lambda _: None)
        self._seen: set[tuple[int, int]] = set()
        self.statement: SignedStatement | None = attested
        """What the predictor attested last: how much it has answered."""

    async def predict(
        self, x: NDArray[Any], advance: Advance | None = None, on_answer: OnAnswer | None = None
    ) -> Predictions:
        """Predict rows `x`, `[n, *input_shape]` of the dataset's input type.

        `on_answer` is called with the number of a first row and the answers from there on, as they come:
        what was answered, and counts as spent, is not lost if a later query fails.

        Raises:
            RowsInvalid: no rows, or not of the job's inputs, or a number that is not finite.
            AnswerRefused: the predictor gave no answer.
            ScoresNotFinite: the model's score for a row is no number; `predictions` has the other rows.
            AnswerUnreadable, AnswerMalformed, StatementInvalid: what came back is not its answer to us.
        """
        spec = self._inquirer.spec
        step, inputs = spec.query_rows, spec.dataset
        if len(x) == 0:
            raise RowsInvalid("there are no rows to predict")
        if x.shape[1:] != inputs.input_shape or x.dtype != inputs.input_dtype.value:
            raise RowsInvalid(
                f"rows to predict have the shape {list(inputs.input_shape)} and type {inputs.input_dtype}"
            )
        refuse_not_finite(x)
        self._write_ahead(len(x))
        answers: dict[int, Answer] = {}
        names = self._inquirer.class_names

        async def ask(start: int) -> None:
            answers[start] = await self._ask(x[start : start + step])
            if on_answer and answers[start].outcome is AnswerOutcome.ANSWERED:
                on_answer(start, joined([answers[start]], names))
            if advance:
                advance(min(len(answers) * step, len(x)), len(x))

        try:
            await each(range(0, len(x), step), ask, at_once=PARALLEL_QUERIES)
        finally:
            if self.statement is not None:
                self._keep(self.statement)
        in_order = [answers[start] for start in sorted(answers)]
        predictions = joined(in_order, names)
        if not predictions.told.all():
            raise ScoresNotFinite(predictions)
        return predictions

    async def _ask(self, rows: NDArray[Any]) -> Answer:
        spec, asking = self._inquirer.spec, self._inquirer
        before = self.statement
        pending = seal_query(spec, rows, self._key, asking.signing_key, asking.asker)
        body = await self._gateway.relay(paths.JOB_QUERIES.of(spec.job), pending.sealed)
        try:
            sealed = SealedMessage.model_validate_json(body).sealed
        except ValueError as error:
            raise GatewayMisbehaved("the gateway's answer to a query is no sealed message") from error
        answer = open_answer(spec, pending, sealed)
        self._attested(answer, before, len(rows))
        return answer

    def _attested(self, answer: Answer, before: SignedStatement | None, rows: int) -> None:
        """Check and keep what the predictor attests; `before` was its last when `rows` were asked.

        Raises:
            StatementInvalid: it answers without saying so, did not sign, or its counts are false.
        """
        signed, claims = answer.statement, self.verified.claims
        if signed is None:
            if answer.outcome is AnswerOutcome.ANSWERED:
                raise StatementInvalid("the predictor does not say what it has answered")
            return
        check_signed(signed, claims.tls_public_key_sha256 or "")
        said = signed.statement
        if said.job != claims.job or said.predictor_key_sha256 != sha256_hex(self._key):
            raise StatementInvalid("the statement is about another job or predictor")
        check_follows(signed, before, rows)
        if order(signed) in self._seen:
            raise StatementInvalid("the predictor counts two answers as one")
        self._seen.add(order(signed))
        if self.statement is None or order(self.statement) < order(signed):
            self.statement = signed
