"""The public terms of the exchange: how long the vector is, how often it travels, how changes are merged."""

import hashlib
import json
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ExchangeMode(StrEnum):
    """How trainers meet."""

    SYNC = "sync"
    """A barrier each exchange; the plain average of the changes."""
    LOCAL = "local"
    """H local steps, then an outer Nesterov step on the averaged change (DiLoCo, arXiv:2311.08105)."""
    ASYNC = "async"
    """No barrier; a change older than the staleness bound is set aside."""


class MergeRule(StrEnum):
    """How the trainers' changes become one."""

    MEAN = "mean"
    """The weighted average."""
    MEDIAN = "median"
    """Coordinate-wise median; holds while fewer than half of the trainers are faulty (arXiv:1803.01498)."""
    TRIMMED_MEAN = "trimmed-mean"
    """Coordinate-wise mean without the `trim` largest and smallest values (arXiv:1803.01498)."""


class ExchangeTerms(BaseModel):
    """What a data owner may choose of the exchange. Public; every field has a sensible default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Element type on the wire; the server always holds float32."""
    outer_learning_rate: float = Field(default=1.0, gt=0, le=2)
    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
    merge: MergeRule = MergeRule.MEAN
    trim: int = Field(default=0, ge=0, le=511)
    """Trainers left out at either end of every coordinate by the trimmed mean."""
    clip_norm: float | None = Field(default=None, gt=0, le=1e12)
    """A change longer than this (Euclidean norm over the whole vector) is scaled down to it."""
    staleness: int = Field(default=4, ge=0, le=1024)
    """`async` only: how many of the others' rounds may be merged while a trainer works on one change."""
    deadline_s: float = Field(default=0.0, ge=0, le=86_400)
    """How long the first trainer at an exchange waits for the last; then those present go on. 0: for ever."""
    unpaced: bool = False
    """Everything leaves as soon as it is ready. By default a job keeps slots, whose length is measured before
    any data is read, so that time tells next to nothing (docs/traffic.md)."""
    period_s: float = Field(default=0.0, ge=0, le=86_400)
    """The shortest slot before an exchange. 0: as short as the measurement allows."""
    shards: int = Field(default=1, ge=1, le=64)
    """Server processes that hold a slice of the vector each; deadline and staleness count for each slice."""
    trainer_checkpoints: bool = True
    """Trainers keep their state sealed in the operator's storage: a crash changes no bit of the model. Costs
    20 to 28 bytes a parameter at every exchange and trainer; without, a restarted one has fresh moments."""


class ExchangeSpec(ExchangeTerms):
    """Everything the parameter server and its clients must agree on. Public; part of the job spec."""

    parameters: int = Field(ge=1, le=200_000_000)
    """Length of the flat vector: the envelope's `max_parameters`, whatever the model really has."""
    trainers: int = Field(ge=1, le=1024)
    exchanges: int = Field(ge=1, le=100_000)
    mode: ExchangeMode = ExchangeMode.LOCAL

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (self.merge is MergeRule.TRIMMED_MEAN) != (self.trim > 0):
            raise ValueError("trim must be positive exactly for the trimmed mean")
        if self.shards > self.parameters:
            raise ValueError("shards: every one must hold at least one parameter")
        if 2 * self.trim >= self.trainers:
            raise ValueError("the trimmed mean must leave at least one trainer")
        if self.unpaced and self.period_s:
            raise ValueError("period_s is a slot's length, and an unpaced job has no slots")
        if self.mode is ExchangeMode.ASYNC and self.merge is not MergeRule.MEAN:
            raise ValueError("without a barrier there is nothing to take a median of")
        if self.mode is ExchangeMode.ASYNC and self.dtype != "float32":
            raise ValueError("async travels as float32: bfloat16 steps need all trainers on one vector")
        return self


def terms_of(spec: ExchangeSpec) -> ExchangeTerms:
    """What of a spec an owner chose."""
    return ExchangeTerms(**{name: getattr(spec, name) for name in ExchangeTerms.model_fields})


def shard_slice(parameters: int, index: int, shards: int) -> slice:
    """The elements that shard `index` of `shards` holds; lengths differ by one at most."""
    if not 0 <= index < shards <= parameters:
        raise ValueError("a shard has an index below their number, and holds at least one element")
    return slice(index * parameters // shards, (index + 1) * parameters // shards)


def shard_spec(spec: ExchangeSpec, index: int, shards: int) -> ExchangeSpec:
    """What shard `index` exchanges."""
    part = shard_slice(spec.parameters, index, shards)
    return spec.model_copy(update={"parameters": part.stop - part.start})


def spec_digest(spec: ExchangeSpec, plan_bytes: int, sums: int) -> bytes:
    """SHA-256 over all that both sides must agree on; they compare it before the first exchange."""
    terms = {"spec": spec.model_dump(mode="json"), "plan_bytes": plan_bytes, "sums": sums}
    return hashlib.sha256(json.dumps(terms, sort_keys=True, separators=(",", ":")).encode()).digest()
