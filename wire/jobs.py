"""The public job spec, the schedule that follows from it, and a job's life as the operator's side sees it."""

from enum import StrEnum
from math import prod
from typing import Literal, Self

from pydantic import Field, model_validator

from chiron.wire.apikeys import TenantName
from chiron.wire.contract import BuildRequest, Envelope, InputType, Oblivious, Task
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import Digest, Identifier, WireModel, digest
from chiron.wire.exchange import ExchangeMode, ExchangeSpec, ExchangeTerms

SUMS = 64
"""Values that are summed over the trainers at each exchange."""
IDLE = SUMS - 1
"""Place in the sums that counts idle trainers."""
LATE = SUMS - 2
"""Place in the sums that counts the further slots that the trainers took so far."""
GIVEN_UP = SUMS - 3
"""Place in the sums that counts the exchanges that they gave up so far; the others are the learner's."""
PLAN_HEAD_BYTES = 64
"""Room for what is said about a plan, beside its graph and recipe."""

MAX_ROWS_BYTES = 48 * 2**20
"""All rows of one query, and those of its answer, at most. An enclave holds several copies of both."""


class JobSpec(WireModel):
    """All that is public of a job. The owner's grant binds its digest; what the host sees follows from it."""

    version: Literal[1] = 1
    job: Identifier
    dataset: DatasetManifest
    builder_sha256: Digest
    envelope: Envelope
    exchange: ExchangeSpec
    seed: int = Field(ge=0, lt=2**63)
    trials: int = Field(default=1, ge=1, le=64)
    validation_percent: int = Field(default=10, ge=0, le=50)
    query_rows: int = Field(default=64, ge=1, le=4096)
    """Rows that every sealed query is padded to."""
    oblivious: Oblivious = Oblivious.CLAMPED
    """How far the addresses that training and prediction use may depend on data."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.exchange.parameters != self.envelope.max_parameters:
            raise ValueError("the exchanged vector must be as long as the envelope's max_parameters")
        return self

    def digest(self) -> str:
        """SHA-256 of the canonical spec."""
        return digest(self)

    def build_request(self, trial: int = 0) -> BuildRequest:
        """What the builder is told of this job."""
        return BuildRequest(
            task=self.dataset.task,
            input_shape=self.dataset.input_shape,
            input_dtype=self.dataset.input_dtype,
            target_shape=self.dataset.target_shape,
            classes=self.dataset.classes,
            max_parameters=self.envelope.max_parameters,
            trial=trial,
            trials=self.trials,
        )


def query_row_bytes(dataset: DatasetManifest) -> int:
    """Bytes of one row of a query."""
    return prod(dataset.input_shape) * (1 if dataset.input_dtype is InputType.UINT8 else 4)


def answer_row_bytes(dataset: DatasetManifest) -> int:
    """Bytes of one row of an answer: a class and its score for each class, or a value for each target."""
    if dataset.task is Task.CLASSIFICATION:
        return dataset.classes * 8
    return prod(dataset.target_shape) * 4


def query_rows_that_fit(dataset: DatasetManifest) -> int:
    """The most `query_rows` that a job over this dataset can have; 0 where not one row fits."""
    return MAX_ROWS_BYTES // max(query_row_bytes(dataset), answer_row_bytes(dataset))


def plan_bytes(spec: JobSpec) -> int:
    """Room for any plan of this job: both sides of the exchange pad to it."""
    return spec.envelope.max_graph_bytes + PLAN_HEAD_BYTES


def exchanges_of(spec: JobSpec, trial: int) -> range:
    """Numbers of the exchanges that belong to a trial: the job's, dealt out evenly."""
    total = spec.exchange.exchanges
    return range(trial * total // spec.trials, (trial + 1) * total // spec.trials)


def shares(spec: JobSpec) -> list[float]:
    """Examples that each trainer reads: how much its changes count."""
    dataset, trainers = spec.dataset, spec.exchange.trainers
    return [float(sum(map(dataset.rows, dataset.partition(index, trainers)))) for index in range(trainers)]


class JobState(StrEnum):
    """A job's states; they only go forward."""

    CREATED = "created"
    LAUNCHING = "launching"
    AWAITING_GRANT = "awaiting-grant"
    BUILDING = "building"
    TRAINING = "training"
    SEALING = "sealing"
    SUCCEEDED = "succeeded"
    """The public schedule ran to its end. Whether the model is any good, only the owner learns."""
    FAILED = "failed"
    CANCELLED = "cancelled"


_ORDER = tuple(JobState)[:7]
TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


def may_follow(now: JobState, then: JobState) -> bool:
    """Whether a job in state `now` may go to `then`: forward along the line, or off it."""
    if now in TERMINAL_STATES:
        return False
    return then in (JobState.FAILED, JobState.CANCELLED) or _ORDER.index(then) > _ORDER.index(now)


class PublicFailure(StrEnum):
    """All that the operator's side may learn of a failure; none depends on data or on the builder's acts."""

    LAUNCH_FAILED = "launch-failed"
    ENCLAVE_EXITED = "enclave-exited"
    ATTESTATION_REFUSED = "attestation-refused"
    GRANT_REFUSED = "grant-refused"
    INPUT_CORRUPTED = "input-corrupted"
    """A ciphertext that the operator's storage served is not the one that the owner uploaded."""
    DEADLINE_EXCEEDED = "deadline-exceeded"
    INTERNAL = "internal"


class JobRequest(WireModel):
    """POST /v1/jobs: what the owner chooses; the gateway fills in the rest and returns the spec."""

    dataset_id: Identifier
    builder_sha256: Digest
    builder_publisher: TenantName | None = None
    """Whose manifest of it is meant: needed where several operators publish this component."""
    trainers: int = Field(default=2, ge=1, le=1024)
    exchanges: int = Field(default=20, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0, lt=2**63)
    trials: int = Field(default=1, ge=1, le=64)
    validation_percent: int = Field(default=10, ge=0, le=50)
    query_rows: int = Field(default=64, ge=1, le=4096)
    oblivious: Oblivious = Oblivious.CLAMPED
    mode: ExchangeMode = ExchangeMode.LOCAL
    terms: ExchangeTerms = ExchangeTerms()
    """Finer choices of the exchange: element type, outer optimizer, robust merge, pacing, shards and more."""

    @model_validator(mode="after")
    def _terms_fit(self) -> Self:
        # With as few elements as may be: what is refused here would be refused of the real spec too.
        ExchangeSpec(
            parameters=self.terms.shards,
            trainers=self.trainers,
            exchanges=self.exchanges,
            mode=self.mode,
            **self.terms.model_dump(),
        )
        return self


class Job(WireModel):
    """GET /v1/jobs/{id}."""

    spec: JobSpec
    state: JobState
    exchanges_done: int = 0
    failure: PublicFailure | None = None
    slot_s: float | None = None
    """A paced job's slot before an exchange, in seconds, once its trainers agreed on it."""
    awaiting_owner: bool = False
    """Its parameter server was started again, and waits for the owner to send the grant again."""
    created_at: str
    """RFC 3339, UTC."""
