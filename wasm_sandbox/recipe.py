"""The recipe: how a builder wants its graph trained. Untrusted JSON becomes a `Recipe` here, or is refused.

Every field is bounded, unknown fields are refused, and fields that contradict each other are too. What
depends on the job (classes, task, input shape) is checked by `chiron.wasm_sandbox.recipe_fit`, before data is
read. `docs/training.md` is the reference with the meaning of each field.
"""

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from chiron.wasm_sandbox.errors import Code, failure
from chiron.wire.contract import ContractModel

MAX_RECIPE_BYTES = 65_536
_REASONS_SHOWN = 5

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=1e-12, le=1e12, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(ge=1e-9, le=100, allow_inf_nan=False)]
WeightDecay = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""A shell pattern (`*`, `?`, `[…]`) over whole parameter names, case-sensitive."""
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]
PerColumn = Annotated[tuple[Number, ...], Field(min_length=1, max_length=4096)]


class CrossEntropy(ContractModel):
    """Softmax cross-entropy of a classification."""

    kind: Literal["cross-entropy"] = "cross-entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    class_weights: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=1024)] | None = None
    """One factor a class; the mean is weighted by them, as PyTorch's is."""


class BinaryCrossEntropy(ContractModel):
    """Sigmoid cross-entropy: of each class against the others, or of a regression's targets in 0..1."""

    kind: Literal["binary-cross-entropy"] = "binary-cross-entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    positive_weight: Positive = 1.0
    """Factor of the positive term."""


class MeanSquaredError(ContractModel):
    """Mean of squared differences over all elements."""

    kind: Literal["mse"] = "mse"


class MeanAbsoluteError(ContractModel):
    """Mean of absolute differences over all elements."""

    kind: Literal["l1"] = "l1"


class Huber(ContractModel):
    """Quadratic up to `delta`, linear beyond (Huber 1964)."""

    kind: Literal["huber"] = "huber"
    delta: Positive = 1.0


Loss = Annotated[
    CrossEntropy | BinaryCrossEntropy | MeanSquaredError | MeanAbsoluteError | Huber,
    Field(discriminator="kind"),
]


class AdamW(ContractModel):
    """Adam with decoupled weight decay (arXiv:1711.05101), bias-corrected."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: LearningRate = 1e-3
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999
    epsilon: float = Field(default=1e-8, ge=1e-12, le=1, allow_inf_nan=False)
    weight_decay: WeightDecay = 0.01


class Sgd(ContractModel):
    """Stochastic gradient descent, momentum as PyTorch's; weight decay is added to the gradient."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = 0.05
    momentum: Momentum = 0.9
    nesterov: bool = False
    weight_decay: WeightDecay = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


Optimizer = Annotated[AdamW | Sgd, Field(discriminator="kind")]


class Constant(ContractModel):
    """The learning rate as it is."""

    kind: Literal["constant"] = "constant"


class Step(ContractModel):
    """Multiplied by `factor` at each milestone, a fraction of the training's steps."""

    kind: Literal["step"] = "step"
    milestones: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=32)] = (0.5, 0.75)
    factor: float = Field(default=0.1, gt=0, lt=1, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must ascend")
        return self


class Cosine(ContractModel):
    """Half a cosine from the learning rate to `final_fraction` of it (arXiv:1608.03983)."""

    kind: Literal["cosine"] = "cosine"
    final_fraction: Fraction = 0.0


class OneCycle(ContractModel):
    """Cosine up to the learning rate until `peak_at`, then cosine down (arXiv:1708.07120)."""

    kind: Literal["one-cycle"] = "one-cycle"
    peak_at: float = Field(default=0.3, gt=0, lt=1, allow_inf_nan=False)
    initial_fraction: Fraction = 0.04
    final_fraction: Fraction = 1e-4


Schedule = Annotated[Constant | Step | Cosine | OneCycle, Field(discriminator="kind")]


class Layout(StrEnum):
    """Where an image's channels are in the input shape."""

    CHANNELS_FIRST = "channels-first"
    CHANNELS_LAST = "channels-last"


class Augmentations(ContractModel):
    """Random changes of training examples. All but `mixup_alpha` are for images."""

    layout: Layout = Layout.CHANNELS_FIRST
    """The layout of three-dimensional inputs; two-dimensional ones have no channels."""
    horizontal_flip: bool = False
    vertical_flip: bool = False
    crop_padding: int = Field(default=0, ge=0, le=64)
    """Pixels of padding on each side before a crop of the original size."""
    crop_fill: Literal["zero", "reflect"] = "zero"
    cutout: int = Field(default=0, ge=0, le=512)
    """Side of the square that is set to zero (arXiv:1708.04552)."""
    mixup_alpha: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    """Parameter of the Beta distribution; 0 is off (arXiv:1710.09412)."""

    @property
    def spatial(self) -> bool:
        """Whether any of them needs an image."""
        return self.horizontal_flip or self.vertical_flip or self.crop_padding > 0 or self.cutout > 0


class Normalisation(ContractModel):
    """`(x - mean) / std`, in the graph: training and prediction see the same."""

    mean: PerColumn
    """One number for all, or one a channel (images) or column (vectors)."""
    std: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=4096)]
    layout: Layout = Layout.CHANNELS_FIRST

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must be equally long")
        return self


class EarlyStop(ContractModel):
    """Learning stops after `patience` exchanges without a better validation loss; the schedule goes on."""

    patience: int = Field(default=5, ge=1, le=100_000)
    minimum_improvement: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)


class Metric(StrEnum):
    """What is measured on the validation rows besides the loss."""

    ACCURACY = "accuracy"
    TOP5 = "top5"
    AUC = "auc"
    F1 = "f1"
    RMSE = "rmse"
    R2 = "r2"


class Recipe(ContractModel):
    """How to train: see `docs/training.md`."""

    version: Literal[1] = 1
    loss: Loss = Field(default_factory=CrossEntropy)
    optimizer: Optimizer = Field(default_factory=AdamW)
    schedule: Schedule = Field(default_factory=Cosine)
    warmup: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Fraction of the steps over which the learning rate rises linearly, before the schedule."""
    no_decay: Patterns = ()
    """Parameters without weight decay, besides those of one dimension (biases, norms)."""
    decay_all: bool = False
    """Parameters of one dimension have weight decay too."""
    frozen: Patterns = ()
    """Parameters that keep their initial values."""
    clip_norm: Positive | None = None
    """Greatest global L2 norm of the gradient."""
    clip_value: Positive | None = None
    """Greatest absolute value of a gradient's element."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Examples of an optimizer step, over all trainers and accumulated batches together."""
    accumulation: int = Field(default=1, ge=1, le=256)
    """Parts that a trainer computes its share of a batch in, to save memory."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps; instead of `epochs`. Neither is 10 epochs."""
    augmentations: Augmentations = Field(default_factory=Augmentations)
    normalise: Normalisation | None = None
    fill_missing: PerColumn | None = None
    """What replaces NaN in the inputs, before `normalise`: one number for all, or one a column."""
    ema_decay: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """The model is the exponential moving average of the weights, with this decay a step."""
    early_stop: EarlyStop | None = None
    metrics: Annotated[tuple[Metric, ...], Field(max_length=6)] = ()
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Mixed with the job's seed."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps exclude each other")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.accumulation > self.batch_size:
            raise ValueError("accumulation must not exceed batch_size")
        return self


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a parameter's name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def parse_recipe(data: bytes) -> Recipe:
    """The recipe in a plan.

    Raises:
        PlanRefused: `recipe-invalid`; its `detail` names each offending field, never a value.
    """
    if len(data) > MAX_RECIPE_BYTES:
        raise failure(Code.RECIPE_INVALID, f"longer than {MAX_RECIPE_BYTES} bytes")
    try:
        return Recipe.model_validate_json(data)
    except ValidationError as error:
        reasons = error.errors(include_url=False, include_context=False, include_input=False)
        shown = [f"{_field(reason['loc'])}: {reason['msg']}" for reason in reasons[:_REASONS_SHOWN]]
        raise failure(Code.RECIPE_INVALID, "; ".join(shown)) from None
    except Exception as error:
        raise failure(Code.RECIPE_INVALID, type(error).__name__) from None


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "recipe"
