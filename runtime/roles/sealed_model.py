"""The product of a job as it lies in the operator's storage: always of the size that the job spec implies."""

import struct
from typing import Literal

from pydantic import Field, ValidationError

from chiron.runtime.errors import ModelUnusable, SealingError
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import objects
from chiron.wire.encoding import Digest, Identifier, SigningPublicKey, WireModel
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec


class ModelHeader(WireModel):
    """What the predictor must know beside the ONNX bytes."""

    version: Literal[1] = 1
    job: Identifier
    spec_digest: Digest
    prediction: PredictionPolicy
    owner_signing_key: SigningPublicKey
    """Whose model it is: an upgrade needs this key's signature."""
    usable: bool
    """False where the job ran its schedule without learning; the owner knows why, the host nothing."""
    moves: int = Field(default=0, ge=0)
    """How often newer code has taken it over."""
    rows_answered: int = Field(default=0, ge=0)
    """Taken from its query budget before the last move."""


def seal_model(spec: JobSpec, header: ModelHeader, onnx: bytes, sealer: Sealer) -> bytes:
    """The object to store (`chiron.wire.objects.model`).

    Raises:
        TooLarge: the model exceeds what the job's envelope allows.
    """
    content = encode_model(header, onnx)
    return sealer.seal(content, size=objects.model(spec).content_bytes, context=bytes.fromhex(spec.job))


def open_model(spec: JobSpec, sealed: bytes, sealer: Sealer) -> tuple[ModelHeader, bytes]:
    """Header and ONNX bytes of what `seal_model` made for this job.

    Raises:
        ModelUnusable: it was sealed for another measurement, job or purpose, or was altered.
    """
    try:
        content = sealer.open(sealed, context=bytes.fromhex(spec.job))
    except SealingError as error:
        raise ModelUnusable("model-unreadable", "the model was not sealed to this enclave and job") from error
    return decode_model(content, spec)


def encode_model(header: ModelHeader, onnx: bytes) -> bytes:
    """Header length (4 bytes, little-endian), header JSON, ONNX bytes."""
    head = header.model_dump_json().encode()
    return struct.pack("<I", len(head)) + head + onnx


def decode_model(plaintext: bytes, spec: JobSpec) -> tuple[ModelHeader, bytes]:
    """Take apart what `encode_model` made, and check that it belongs to the job of `spec`.

    Raises:
        ModelUnusable: it is malformed, or does not.
    """
    if len(plaintext) < 4:
        raise ModelUnusable("model-malformed", "the sealed model is empty")
    (length,) = struct.unpack_from("<I", plaintext)
    try:
        header = ModelHeader.model_validate_json(plaintext[4 : 4 + length])
    except ValidationError:
        raise ModelUnusable("model-malformed", "the sealed model's header is malformed") from None
    if header.job != spec.job or header.spec_digest != spec.digest():
        raise ModelUnusable("model-of-another-job", "the sealed model was made for another job")
    return header, plaintext[4 + length :]
