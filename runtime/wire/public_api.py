"""Bodies of the gateway's public HTTP API (`/v1/…`) that are not a job's, a builder's or a dataset's own."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from runtime.wire.attestation import Nonce, Role
from runtime.wire.datasets import DatasetManifest
from runtime.wire.encoding import Digest, Identifier, WireModel


class DatasetUpload(WireModel):
    """POST /v1/datasets: announce a dataset, before its chunks."""

    manifest: DatasetManifest


class DatasetStatus(WireModel):
    """GET /v1/datasets/{id}: how far the upload is."""

    dataset_id: Identifier
    digest: Digest
    """Of the manifest: what grants and job specs name."""
    chunks: int = Field(ge=1)
    received: tuple[int, ...]
    """Numbers of the chunks that are stored, ascending; an upload resumes with the others."""
    complete: bool
    created_at: str
    """RFC 3339, UTC."""


class EvidenceDemand(WireModel):
    """POST /v1/jobs/{id}/evidence: have this job's enclave quote fresh evidence over `nonce`."""

    role: Literal[Role.PARAMETER_SERVER, Role.PREDICTOR] = Role.PARAMETER_SERVER
    nonce: Nonce


class PredictorState(StrEnum):
    """Where a job's predictor is."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"


class PredictorStatus(WireModel):
    """POST and GET /v1/jobs/{id}/predictor."""

    state: PredictorState


class Health(WireModel):
    """GET /healthz."""

    status: Literal["ok"] = "ok"
