"""A predictor's answers, joined into one table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiron.client.errors import AnswerRefused
from chiron.runtime.queries import Answer, AnswerOutcome

_WORDS = {
    AnswerOutcome.BUDGET_EXHAUSTED: "the grant's query budget is used up",
    AnswerOutcome.MODEL_UNUSABLE: "the job ended without a usable model: its outcome says why",
    AnswerOutcome.QUERY_MALFORMED: "the predictor could not read the query",
    AnswerOutcome.PREDICTION_FAILED: "the model failed on these rows",
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the owner's policy let through for each row that was asked about."""

    scores: NDArray[np.float32]
    """Classification: [rows, told], best first. Regression: [rows, *target_shape]."""
    classes: NDArray[np.int32] | None = None
    """Classification: [rows, told] class indices that the scores belong to."""
    class_names: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[np.int32]:
        """Best class of each row. Only a classification has classes."""
        if self.classes is None:
            raise AnswerRefused("a regression has no classes", code="no-classes")
        return self.classes[:, 0]

    @property
    def names(self) -> list[str]:
        """Best class of each row by name, or by number where the owner named none."""
        return [self.class_names[label] if self.class_names else str(label) for label in self.labels]

    def __len__(self) -> int:
        return len(self.scores)


def joined(answers: Sequence[Answer], class_names: tuple[str, ...]) -> Predictions:
    """Answers to consecutive queries as one table.

    Raises:
        AnswerRefused: one of them is a refusal.
    """
    for answer in answers:
        if answer.outcome is not AnswerOutcome.ANSWERED:
            raise AnswerRefused(_WORDS[answer.outcome], code=answer.outcome.code)
    classes = [answer.classes for answer in answers if answer.classes is not None]
    return Predictions(
        scores=np.concatenate([answer.scores for answer in answers]),
        classes=np.concatenate(classes) if classes else None,
        class_names=class_names,
    )
