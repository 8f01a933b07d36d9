"""The product of a job as it lies in the operator's storage: always of the size that the job spec implies."""

from typing import Literal

from chiron.runtime.errors import ModelUnusable, SealedElsewhere, SealingError
from chiron.runtime.roles.sealed_record import Record, SealedRecord
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import codes, objects
from chiron.wire.encoding import Digest, Identifier, SigningPublicKey, WireModel
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec


class ModelHeader(WireModel):
    """The facts that a predictor needs beside the ONNX bytes."""

    version: Literal[1] = 1
    job: Identifier
    spec_digest: Digest
    prediction: PredictionPolicy
    owner_signing_key: SigningPublicKey
    """The key of the model's owner: an upgrade needs its signature."""
    usable: bool
    """False where the job ran its schedule without learning; the owner knows why, the host nothing."""


def seal_model(spec: JobSpec, header: ModelHeader, onnx: bytes, sealer: Sealer) -> bytes:
    """The object to store (`chiron.wire.objects.model`).

    Raises:
        TooLarge: the model exceeds what the job's envelope allows.
    """
    return _sealed(spec, sealer).seal(encode_model(spec, header, onnx))


def open_model(spec: JobSpec, sealed: bytes, sealer: Sealer) -> tuple[ModelHeader, bytes]:
    """Header and ONNX bytes of what `seal_model` made for this job.

    Raises:
        ModelUnusable: it was sealed for another measurement, machine, job or purpose, or was altered.
    """
    try:
        header, (onnx,) = _sealed(spec, sealer).open(sealed)
    except SealedElsewhere as error:
        raise ModelUnusable(codes.SEALED_ELSEWHERE, str(error)) from error
    except SealingError as error:
        raise ModelUnusable("model-unreadable", "the model was not sealed to this enclave and job") from error
    return _of_this_job(spec, header), bytes(onnx)


def encode_model(spec: JobSpec, header: ModelHeader, onnx: bytes) -> bytearray:
    """The model before sealing, whoever it is sealed to; of one size a job.

    Raises:
        TooLarge: the model exceeds what the job's envelope allows.
    """
    return Record(objects.model(spec), ModelHeader).encode(header, onnx)


def decode_model(spec: JobSpec, content: bytes) -> tuple[ModelHeader, bytes]:
    """Header and ONNX bytes of what `encode_model` made for this job.

    Raises:
        ModelUnusable: it is malformed, or belongs to another job.
    """
    try:
        header, (onnx,) = Record(objects.model(spec), ModelHeader).decode(content)
    except SealingError as error:
        raise ModelUnusable("model-malformed", "the sealed model is malformed") from error
    return _of_this_job(spec, header), bytes(onnx)


def _sealed(spec: JobSpec, sealer: Sealer) -> SealedRecord[ModelHeader]:
    return SealedRecord(objects.model(spec), ModelHeader, sealer, bytes.fromhex(spec.job))


def _of_this_job(spec: JobSpec, header: ModelHeader) -> ModelHeader:
    if header.job != spec.job or header.spec_digest != spec.digest():
        raise ModelUnusable("model-of-another-job", "the sealed model was made for another job")
    return header
