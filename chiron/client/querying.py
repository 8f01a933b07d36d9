"""Asking a verified predictor: rows in sealed queries of one size, answers for one-time keys."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from chiron.client.errors import GatewayMisbehaved, SpecMismatch
from chiron.client.gateway import GatewaySession
from chiron.client.parallel import each
from chiron.client.predictions import Predictions, joined
from chiron.client.store import JobRecord
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.errors import RowsInvalid
from chiron.runtime.queries import Answer, open_answer, seal_query
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import SealedMessage

PARALLEL_QUERIES = 3
"""So that the predictor has a query at hand while an answer travels."""


class PredictorSession:
    """One verified predictor of one job."""

    def __init__(self, gateway: GatewaySession, record: JobRecord, verified: VerifiedEvidence) -> None:
        """
        Raises:
            SpecMismatch: the evidence is not of this job's predictor.
        """
        claims = verified.claims
        if claims.role is not Role.PREDICTOR or claims.job != record.spec.job or not claims.hpke_public_key:
            raise SpecMismatch("the evidence is not of this job's predictor")
        self.verified = verified
        self._key = claims.hpke_public_key
        self._gateway = gateway
        self._record = record

    async def predict(
        self, x: NDArray[Any], advance: Callable[[int, int], None] | None = None
    ) -> Predictions:
        """Predict rows `x` [n, *input_shape] of the dataset's input type.

        Raises:
            RowsInvalid: no rows, or not of the job's inputs.
            AnswerRefused: the predictor gave no answer.
            AnswerUnreadable, AnswerMalformed: what came back is not its answer to our query.
        """
        step = self._record.spec.query_rows
        if len(x) == 0:
            raise RowsInvalid("there are no rows to predict")
        answers: dict[int, Answer] = {}

        async def ask(start: int) -> None:
            answers[start] = await self._ask(x[start : start + step])
            if advance:
                advance(min(len(answers) * step, len(x)), len(x))

        await each(range(0, len(x), step), ask, at_once=PARALLEL_QUERIES)
        in_order = [answers[start] for start in sorted(answers)]
        return joined(in_order, self._record.class_names)

    async def _ask(self, rows: NDArray[Any]) -> Answer:
        spec = self._record.spec
        pending = seal_query(spec, rows, self._key)
        body = await self._gateway.relay(f"/v1/jobs/{spec.job}/queries", pending.sealed)
        try:
            sealed = SealedMessage.model_validate_json(body).sealed
        except ValueError as error:
            raise GatewayMisbehaved("the gateway's answer to a query is no sealed message") from error
        return open_answer(spec, pending, sealed)
