"""The public terms of the exchange: how long the vector is, how often it travels, how changes are merged."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ExchangeMode(StrEnum):
    """How trainers meet."""

    SYNC = "sync"
    """A barrier each exchange; the plain average of the changes."""
    LOCAL = "local"
    """H local steps, then an outer Nesterov step on the averaged change (DiLoCo, arXiv:2311.08105)."""
    ASYNC = "async"
    """No barrier; a change older than the staleness bound is refused."""


class ExchangeSpec(BaseModel):
    """Everything the parameter server and its clients must agree on. Public; part of the job spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int = Field(ge=1, le=200_000_000)
    """Length of the flat vector: the envelope's `max_parameters`, whatever the model really has."""
    trainers: int = Field(ge=1, le=1024)
    exchanges: int = Field(ge=1, le=100_000)
    mode: ExchangeMode = ExchangeMode.LOCAL
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Element type on the wire; the server always holds float32."""
    outer_learning_rate: float = Field(default=1.0, gt=0, le=2)
    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
