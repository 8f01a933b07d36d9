"""Errors of training.

TrainingFailed      has a stable `code` (`Reason`); told to the owner alone, never to the host

Messages are fixed sentences: what the engine says about a graph may hold names a builder chose or values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from chiron.runtime.errors import DatasetError, EnclaveError
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wire.errors import ChironError

ENGINE_SILENT = 4
"""onnxruntime's severity for fatal ends only: its messages tell what a graph computed from the data."""


class Reason(StrEnum):
    """Why a graph was not trained."""

    ENGINE_FAILED = "training-failed"
    NOT_DIFFERENTIABLE = "graph-not-differentiable"
    NOTHING_TO_TRAIN = "nothing-to-train"
    STEPS_EXCEED_ENVELOPE = "steps-exceed-envelope"
    TOO_FEW_EXCHANGES = "too-few-exchanges"
    BATCH_EXCEEDS_MEMORY = "batch-exceeds-memory"
    PREPROCESSING_UNSUPPORTED = "preprocessing-unsupported"
    INITIALIZATION_FAILED = "initialization-failed"
    STATE_INVALID = "training-state-invalid"
    MODEL_INVALID = "model-invalid"
    ADDRESSES = "addresses-depend-on-data"


SENTENCES = {
    Reason.ENGINE_FAILED: "the training engine failed",
    Reason.NOT_DIFFERENTIABLE: "the training engine has no gradient of this graph",
    Reason.NOTHING_TO_TRAIN: "the recipe freezes every parameter that the loss depends on",
    Reason.STEPS_EXCEED_ENVELOPE: "the recipe asks for more steps than the envelope allows",
    Reason.TOO_FEW_EXCHANGES: "streamed data is read once an exchange: more epochs need more exchanges",
    Reason.BATCH_EXCEEDS_MEMORY: "a trainer's part of a batch takes too much memory: raise `accumulation`",
    Reason.PREPROCESSING_UNSUPPORTED: "`normalise` needs a graph that casts its uint8 input to float32",
    Reason.INITIALIZATION_FAILED: "the initial values could not be made",
    Reason.STATE_INVALID: "the saved training state is not one of this job, or is damaged",
    Reason.MODEL_INVALID: "the model does not run",
    Reason.ADDRESSES: "the graph has no form whose addresses do not depend on data",
}


class TrainingFailed(ChironError):
    """Nothing was or can be trained, for the reason of `code`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(SENTENCES[reason], code=str(reason))


@contextmanager
def failing_as(reason: Reason) -> Iterator[None]:
    """Turn whatever the engine raises into `TrainingFailed(reason)`.

    Errors that have a stable code already pass.
    """
    try:
        yield
    except (TrainingFailed, DatasetError, EnclaveError, SandboxError):
        raise
    except Exception as error:
        raise TrainingFailed(reason) from error
