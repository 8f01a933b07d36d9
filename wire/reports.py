"""What a job's enclaves tell the owner alone: one report an exchange, and how it really ended.

Each is sealed to the owner's key and padded to one size (`chiron.wire.objects`): the operator's side sees
that a report exists, which the schedule told it already.

The builder is the operator's secret: nothing here tells the owner of its recipe or graph. So there are
metrics and fixed codes, and no learning rate, number of steps or parameters, and no words of the builder's.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from chiron.wire.encoding import WireModel

Metric = Annotated[float, Field(allow_inf_nan=False)] | None
"""A finite number, or nothing where it was not measured or was not finite."""


class TrainingReport(WireModel):
    """One exchange as the leading trainer saw it; losses and accuracies are means over examples.

    Those of training are of the steps since the exchange before; those of validation of the merged vector
    that these steps began with. A trial's last exchange has no steps, so it measures the final model.
    """

    version: Literal[2] = 2
    exchange: int = Field(ge=0, le=100_000)
    trial: int = Field(default=0, ge=0, le=63)
    train_loss: Metric = None
    train_accuracy: Metric = None
    validation_loss: Metric = None
    validation_accuracy: Metric = None
    validation_top5: Metric = None
    validation_auc: Metric = None
    validation_f1: Metric = None
    validation_rmse: Metric = None
    validation_r2: Metric = None
    diverged: bool = False
    """A loss or weight was not finite: learning stopped, the schedule went on."""
    slot_s: Metric = None
    """A paced job's slot before an exchange, as its trainers agreed on it."""
    late_slots: int = Field(default=0, ge=0)
    """Further slots that trainers took so far because their work was not done; the host saw each."""
    given_up: int = Field(default=0, ge=0)
    """Exchanges so far to which a trainer had nothing to give in time, nor a further slot left."""


class OutcomeStatus(StrEnum):
    """How a job really ended, for its owner only."""

    TRAINED = "trained"
    DIVERGED = "diverged"
    BUILDER_REFUSED = "builder-refused"
    """The builder failed, asked for what was not granted, or its plan was not admitted."""
    TRAINING_FAILED = "training-failed"


def _fits(detail: str) -> str:
    """Printable, as JSON writes a control character as six bytes; and short."""
    printable = "".join(character if character.isprintable() else "?" for character in detail)
    return printable.encode()[:2000].decode(errors="ignore")


class Outcome(WireModel):
    """The job's end. `code` and `detail` say why, where it was not trained."""

    version: Literal[2] = 2
    status: OutcomeStatus
    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = "trained"
    detail: Annotated[str, AfterValidator(_fits)] = ""
    """A fixed sentence for people; cut to 2,000 bytes."""
    metrics: TrainingReport | None = None
    """The last report on the model that was sealed."""
