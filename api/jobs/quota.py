"""How large and how many the sealed things of a job can be, from its public spec alone. Pure.

These are the operator's bounds against a broken or hostile enclave, not the exact sizes: those are the
enclaves' own promise, and `GET …/observations` lets anybody hold them to it.
"""

import re
from math import prod

from chiron.api.errors import ObjectRefused
from chiron.wire.attestation import Role
from chiron.wire.contract import InputType, Task
from chiron.wire.jobs import JobSpec
from chiron.wire.reports import OUTCOME_BYTES, OUTCOME_OBJECT, REPORT_BYTES
from chiron.wire.upgrade import TRANSFER_OBJECT

SLACK_BYTES = 256 * 1024
"""Headers, keys and tags around any sealed content."""
VECTORS_IN_CHECKPOINT = 8
"""Parameters, momentum, an optimizer's state, averages and what is owed, in float32, with room."""
PLANS_IN_CHECKPOINT = 3
TRIAL_BYTES = 384 * 1024
"""What the leading trainer's checkpoint says of a trial, at most."""
STATE_OBJECTS = 16
"""Names `state-…` for small sealed states, such as a predictor's budget."""

_REPORT = re.compile(r"report-(\d{4,6})")
_CHECKPOINT = re.compile(r"checkpoint(-[a-z0-9-]+)?")
_STATE = re.compile(r"state-[a-z0-9-]+")


def object_limit(spec: JobSpec, name: str, role: Role, *, taking: bool = False) -> int:
    """Bytes that `role` may store under `name`; a predictor a model only while it is `taking` one over.

    Raises:
        ObjectRefused: a job of this spec makes no such object, or this role does not.
    """
    if role is Role.SHARD and not _CHECKPOINT.fullmatch(name):
        raise ObjectRefused("a shard stores nothing but its checkpoint")
    vector = 4 * spec.envelope.max_parameters
    predicts = role is Role.PREDICTOR
    if (name == "model" and predicts is taking) or (name == TRANSFER_OBJECT and predicts):
        return vector + spec.envelope.max_graph_bytes + SLACK_BYTES
    if not predicts:
        if _CHECKPOINT.fullmatch(name):
            plans = PLANS_IN_CHECKPOINT * spec.envelope.max_graph_bytes
            return VECTORS_IN_CHECKPOINT * vector + plans + spec.trials * TRIAL_BYTES + SLACK_BYTES
        if name == OUTCOME_OBJECT:
            return OUTCOME_BYTES + SLACK_BYTES
        report = _REPORT.fullmatch(name)
        if report and int(report[1]) < spec.exchange.exchanges:
            return REPORT_BYTES + SLACK_BYTES
    if _STATE.fullmatch(name):
        return SLACK_BYTES
    raise ObjectRefused("a job of this spec stores no object of this name")


def object_count(spec: JobSpec) -> int:
    """Objects that a job may have at a time."""
    checkpoints = 2 * (spec.exchange.trainers + spec.exchange.shards)
    return spec.exchange.exchanges + checkpoints + STATE_OBJECTS + 3


def query_limit(spec: JobSpec) -> int:
    """Bytes of a sealed query."""
    width = 1 if spec.dataset.input_dtype is InputType.UINT8 else 4
    return spec.query_rows * prod(spec.dataset.input_shape) * width + SLACK_BYTES


def answer_limit(spec: JobSpec) -> int:
    """Bytes of a sealed answer."""
    if spec.dataset.task is Task.CLASSIFICATION:
        return spec.query_rows * spec.dataset.classes * 8 + SLACK_BYTES
    return spec.query_rows * prod(spec.dataset.target_shape) * 4 + SLACK_BYTES
