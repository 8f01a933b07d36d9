"""The public terms between builder, operator and data owner: capabilities, envelope, manifest, request.

The component side of the same terms is `wit/`; `docs/builder-contract.md` explains both.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WrapSerializer, model_validator

MAX_COMPONENT_BYTES = 64 * 2**20
"""A Python component is about 18 MB; nothing larger than this is read."""

Dimension = Annotated[int, Field(ge=1, le=2**20)]
Shape = Annotated[tuple[Dimension, ...], Field(max_length=4)]
"""One example's shape, without the batch dimension."""


_IN_ORDER = WrapSerializer(lambda value, write: sorted(write(value)), when_used="json")
"""For a set: in one order, or the same manifest would be written differently by each process."""


class ContractModel(BaseModel):
    """Immutable; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Capability(StrEnum):
    """What a data owner can grant a builder. Each is one WIT interface, linked only if granted."""

    LOG = "log"
    DATASET_SHAPE = "dataset-shape"
    DATASET_STATISTICS = "dataset-statistics"
    DATASET_SAMPLE = "dataset-sample"
    RANDOM = "random"
    TRIAL_SCORES = "trial-scores"


class CapabilityGrants(ContractModel):
    """What the data owner grants the builder of one job, with bounds."""

    granted: Annotated[frozenset[Capability], _IN_ORDER] = frozenset(
        {Capability.LOG, Capability.DATASET_SHAPE}
    )
    sample_examples: int = Field(default=0, ge=0, le=1024)
    """Examples `dataset-sample` may hand out."""

    @model_validator(mode="after")
    def _bounds_match(self) -> Self:
        if (Capability.DATASET_SAMPLE in self.granted) != (self.sample_examples > 0):
            raise ValueError("sample_examples must be positive exactly when dataset-sample is granted")
        return self


class Task(StrEnum):
    """What the model predicts."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class InputType(StrEnum):
    """Element type of the examples' inputs."""

    UINT8 = "uint8"
    FLOAT32 = "float32"


class Oblivious(StrEnum):
    """How far an enclave's addresses may depend on data: a host can watch which pages they are in."""

    CLAMPED = "clamped"
    """Every index that data decide is held to its bounds before it is used."""
    STRICT = "strict"
    """No address depends on data, in training, validation, prediction. What has no such form is refused."""


class Envelope(ContractModel):
    """Public upper bounds of everything that a builder can make; all the host sees is padded to them."""

    max_parameters: int = Field(ge=1, le=200_000_000)
    """Elements over all trained and frozen parameters and buffers."""
    max_graph_bytes: int = Field(default=262_144, ge=1024, le=16 * 2**20)
    """Serialised ONNX graph and recipe together."""
    max_steps: int = Field(default=20_000, ge=1, le=10_000_000)
    """Optimizer steps a trainer takes over the whole job, at most."""
    build_seconds: float = Field(default=5.0, ge=0.1, le=3600)
    """A paced job's slot for one call of the builder, with admission and measurement of what it answers; and
    for each trainer to make ready for it."""
    answer_seconds: float = Field(default=0.5, ge=0.05, le=600)
    """A paced predictor's slot for an answer, for each 64 rows of a query. Four are answered at a time."""


class ExampleForm(ContractModel):
    """What one example looks like."""

    task: Task
    input_shape: Shape
    input_dtype: InputType
    target_shape: Shape = ()
    classes: int = Field(default=0, ge=0, le=100_000)
    """Classes of a classification, 0 for a regression."""

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if (self.task is Task.CLASSIFICATION) != (self.classes > 0):
            raise ValueError("a classification has classes, and nothing else does")
        return self


class BuilderManifest(ContractModel):
    """What an operator publishes beside a builder."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    description: str = Field(default="", max_length=1000)
    tasks: Annotated[frozenset[Task], _IN_ORDER] = Field(min_length=1)
    max_input_elements: int = Field(default=1_000_000, ge=1)
    """Elements of one example's input, at most."""
    shapes: tuple[ExampleForm, ...] = Field(default=(), max_length=16)
    """Some that it builds for: `chiron builder check` tries each. A job may have others."""
    envelope: Envelope


class BuildRequest(ContractModel):
    """What every builder is told: public facts of the job spec only, nothing of the data's values."""

    task: Task
    input_shape: Shape
    input_dtype: InputType
    target_shape: Shape = ()
    classes: int = Field(default=0, ge=0, le=100_000)
    """Classes of a classification, 0 for a regression."""
    max_parameters: int = Field(ge=1)
    trial: int = Field(default=0, ge=0, le=63)
    trials: int = Field(default=1, ge=1, le=64)


class TrialOutcome(StrEnum):
    """How a trial went."""

    TRAINED = "trained"
    DIVERGED = "diverged"
    REFUSED = "refused"


class Trial(ContractModel):
    """How an earlier trial went. A builder learns it by the capability `trial-scores`, in rounded numbers."""

    number: int = Field(ge=0, le=63)
    outcome: TrialOutcome
    validation_loss: float
    """The loss on the validation split at the end; NaN where there is none."""
    validation_score: float
    """Accuracy, or coefficient of determination: larger is better; NaN where there is none."""
    recipe: str = Field(max_length=2**20)
