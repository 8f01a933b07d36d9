"""From what an owner asks for to the public job spec. Pure."""

from math import prod

from chiron.api.errors import DatasetIncomplete, JobDoesNotFit
from chiron.api.settings import Limits
from chiron.wire.datasets import DatasetManifest
from chiron.wire.exchange import ExchangeSpec
from chiron.wire.jobs import JobRequest, JobSpec
from chiron.wire.public_api import BuilderInfo


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
            or shards.
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
    )
