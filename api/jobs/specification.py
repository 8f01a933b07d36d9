"""What follows from an owner's request and a job's public spec: the spec itself, and bounds. Pure.

The bounds are the operator's, against a broken or hostile enclave. Those of stored objects are exact
(`chiron.wire.objects`); those of relayed messages leave room.
"""

from math import prod

from chiron.api.errors import DatasetIncomplete, JobDoesNotFit, ObjectRefused
from chiron.api.settings import Limits
from chiron.wire.attestation import Role
from chiron.wire.datasets import DatasetManifest
from chiron.wire.exchange import ExchangeSpec
from chiron.wire.jobs import (
    MAX_ROWS_BYTES,
    JobRequest,
    JobSpec,
    answer_row_bytes,
    query_row_bytes,
    query_rows_that_fit,
)
from chiron.wire.objects import find_object, model
from chiron.wire.public_api import BuilderInfo

SLACK_BYTES = 256 * 1024
"""Headers, keys and tags around a sealed query or answer."""


def make_spec(
    job: str,
    request: JobRequest,
    manifest: DatasetManifest,
    complete: bool,
    builder: BuilderInfo,
    limits: Limits,
) -> JobSpec:
    """The spec of job `job`; every bound in it is the builder's published envelope.

    Raises:
        DatasetIncomplete: the upload was not completed.
        JobDoesNotFit: the builder does not do this task or input, or there are too many trainers
            or shards, or rows in a query.
    """
    if not complete:
        raise DatasetIncomplete("complete the dataset's upload first")
    published = builder.manifest
    if manifest.task not in published.tasks:
        raise JobDoesNotFit(f"dataset_id: the builder does not do {manifest.task}")
    if prod(manifest.input_shape) > published.max_input_elements:
        raise JobDoesNotFit(
            f"dataset_id: the builder takes inputs of at most {published.max_input_elements} elements"
        )
    if request.trainers > limits.trainers:
        raise JobDoesNotFit(f"trainers: this gateway runs at most {limits.trainers} trainers a job")
    if request.trainers > manifest.chunks:
        raise JobDoesNotFit(
            f"trainers: the dataset has {manifest.chunks} chunks; a trainer needs at least one"
        )
    shards = request.terms.shards
    if shards > limits.shards:
        raise JobDoesNotFit(f"terms.shards: this gateway runs at most {limits.shards} shards a job")
    if shards > published.envelope.max_parameters:
        raise JobDoesNotFit("terms.shards: the builder's envelope has fewer parameters than that")
    _check_query_rows(request.query_rows, manifest)
    return JobSpec(
        job=job,
        dataset=manifest,
        builder_sha256=builder.sha256,
        envelope=published.envelope,
        exchange=ExchangeSpec(
            parameters=published.envelope.max_parameters,
            trainers=request.trainers,
            exchanges=request.exchanges,
            mode=request.mode,
            **request.terms.model_dump(),
        ),
        seed=request.seed,
        trials=request.trials,
        validation_percent=request.validation_percent,
        query_rows=request.query_rows,
        oblivious=request.oblivious,
    )


def _check_query_rows(query_rows: int, manifest: DatasetManifest) -> None:
    most = query_rows_that_fit(manifest)
    if most == 0:
        raise JobDoesNotFit(
            f"dataset_id: one row, or the answer to it, is longer than {MAX_ROWS_BYTES} bytes: "
            "use smaller inputs or targets"
        )
    if query_rows > most:
        raise JobDoesNotFit(
            f"query_rows: {query_rows} rows of this dataset, or the answers to them, are longer than "
            f"{MAX_ROWS_BYTES} bytes: ask for at most {most} (chiron train --query-rows {most})"
        )


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
    return spec.query_rows * query_row_bytes(spec.dataset) + SLACK_BYTES


def answer_limit(spec: JobSpec) -> int:
    """Bytes of a sealed answer."""
    return spec.query_rows * answer_row_bytes(spec.dataset) + SLACK_BYTES
