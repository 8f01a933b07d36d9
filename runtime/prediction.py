"""The trained model: answers for rows of inputs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from chiron.runtime.training.errors import Reason, failing_as
from chiron.runtime.training.graphs import INPUT, OUTPUT
from chiron.runtime.training.sessions import session_options
from chiron.wire.jobs import JobSpec

_BATCH = 256
"""Rows that are computed at a time."""


class Model:
    """An exported inference model. It holds its own preprocessing and activation."""

    def __init__(self, onnx: bytes, spec: JobSpec, *, threads: int = 1) -> None:
        """Load an exported model.

        Raises:
            TrainingFailed: model-invalid.
        """
        self._dataset = spec.dataset
        with failing_as(Reason.MODEL_INVALID):
            self._session = InferenceSession(
                onnx, session_options(threads), providers=["CPUExecutionProvider"]
            )

    def predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Answer for rows [n, *input_shape] in the dataset's input type.

        Returns:
            Class scores [n, classes], or values [n, *target_shape].

        Raises:
            TrainingFailed: model-invalid, where the model does not run on these rows.
        """
        dataset = self._dataset
        width = (dataset.classes,) if dataset.classes else dataset.target_shape
        answers = np.empty((len(x), *width), np.float32)
        with failing_as(Reason.MODEL_INVALID):
            for start in range(0, len(x), _BATCH):
                rows = np.ascontiguousarray(x[start : start + _BATCH], dataset.input_dtype.value)
                answers[start : start + _BATCH] = self._session.run([OUTPUT], {INPUT: rows})[0]
        return answers
