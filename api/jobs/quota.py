"""How large the sealed things of a job can be, from its public spec alone. Pure.

These are the operator's bounds against a broken or hostile enclave. Stored objects have them exactly
(`chiron.wire.objects`); what is relayed has them with room to spare.
"""

from math import prod

from chiron.api.errors import ObjectRefused
from chiron.wire.attestation import Role
from chiron.wire.contract import InputType, Task
from chiron.wire.jobs import JobSpec
from chiron.wire.objects import find_object, model

SLACK_BYTES = 256 * 1024
"""Headers, keys and tags around a sealed query or answer."""


def object_limit(spec: JobSpec, name: str, role: Role, index: int = 0, *, taking: bool = False) -> int:
    """Bytes that enclave `index` of `role` may store under `name`.

    A predictor that is `taking` a model over may store that as well.

    Raises:
        ObjectRefused: a job of this spec has no such object, or another enclave writes it.
    """
    stored = find_object(spec, name)
    if stored is None:
        raise ObjectRefused("a job of this spec stores no object of this name")
    writes = stored.writer is role and stored.index in (None, index)
    takes = taking and role is Role.PREDICTOR and name == model(spec).name
    if not writes and not takes:
        raise ObjectRefused("another enclave of the job stores this object")
    return stored.stored_bytes


def query_limit(spec: JobSpec) -> int:
    """Bytes of a sealed query."""
    width = 1 if spec.dataset.input_dtype is InputType.UINT8 else 4
    return spec.query_rows * prod(spec.dataset.input_shape) * width + SLACK_BYTES


def answer_limit(spec: JobSpec) -> int:
    """Bytes of a sealed answer."""
    if spec.dataset.task is Task.CLASSIFICATION:
        return spec.query_rows * spec.dataset.classes * 8 + SLACK_BYTES
    return spec.query_rows * prod(spec.dataset.target_shape) * 4 + SLACK_BYTES
