"""Bodies of the gateway's public HTTP API (`/v1/…`) that are not a job's or a dataset's own."""

from enum import StrEnum
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from chiron.wire.apikeys import MAX_KEY_CHARACTERS, KeyId, TenantName
from chiron.wire.attestation import Evidence, Nonce, Role
from chiron.wire.contract import BuilderManifest, Capability
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import Digest, Identifier, WireModel
from chiron.wire.grants import SignedUpgradeOrder
from chiron.wire.opening import Time
from chiron.wire.transparency import InclusionProof

_Item = TypeVar("_Item", bound=BaseModel)
MAX_CURSOR_CHARACTERS = 400


class Page(WireModel, Generic[_Item]):
    """GET of a list: part of it."""

    items: tuple[_Item, ...]
    next: str | None = Field(default=None, max_length=MAX_CURSOR_CHARACTERS)
    """The `cursor` of the next page; None on the last."""


class BuilderInfo(WireModel):
    """GET /v1/builders/{sha256}, and the answer to an upload."""

    sha256: Digest
    """The digest of the component: the builder's identity."""
    publisher: TenantName
    """The operator that published it, as the gateway says."""
    size: int = Field(ge=1)
    """Bytes of the component."""
    capabilities: tuple[Capability, ...]
    """What the component imports, sorted; a job runs it only if its owner grants all of these."""
    manifest: BuilderManifest
    created_at: str
    """RFC 3339, UTC."""

    @property
    def full_name(self) -> str:
        """The name that this gateway gives to no other builder, unless it lies: only the digest is proof."""
        return f"{self.publisher}/{self.manifest.name}@{self.manifest.version}"


class DatasetUpload(WireModel):
    """POST /v1/datasets: announce a dataset, before its chunks."""

    manifest: DatasetManifest


class DatasetStatus(WireModel):
    """GET /v1/datasets/{id}: how far the upload is."""

    dataset_id: Identifier
    digest: Digest
    """The digest of the manifest, which grants and job specs name."""
    chunks: int = Field(ge=1)
    received: tuple[int, ...]
    """Numbers of the chunks that are stored, ascending; an upload resumes with the others."""
    complete: bool
    created_at: str
    """RFC 3339, UTC."""


class DatasetSummary(WireModel):
    """A dataset in GET /v1/datasets."""

    dataset_id: Identifier
    digest: Digest
    chunks: int = Field(ge=1)
    received: int = Field(ge=0)
    """How many of its chunks are stored."""
    complete: bool
    created_at: str
    """RFC 3339, UTC."""


class EvidenceDemand(WireModel):
    """POST /v1/jobs/{id}/evidence: have this job's enclave quote fresh evidence over `nonce`."""

    role: Literal[Role.PARAMETER_SERVER, Role.PREDICTOR] = Role.PARAMETER_SERVER
    nonce: Nonce
    giver: bool = False
    """Of the older predictor that is to give its model away (`/upgrade`), not of the one that takes it."""


class PredictorState(StrEnum):
    """Where a job's predictor is."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"


class PredictorStatus(WireModel):
    """POST and GET /v1/jobs/{id}/predictor."""

    state: PredictorState
    address: str | None = Field(default=None, max_length=300, pattern=r"^[A-Za-z0-9.:\[\]-]+:\d{1,5}$")
    """host:port at which it is reached directly (RA-TLS), once it is ready; None where it is not."""


class ImageInfo(WireModel):
    """GET /v1/images: enclave code that this gateway can launch, the current one first."""

    measurement: Digest
    proof: InclusionProof | None = None
    """Proof that its build is in a transparency log, if it was recorded; whoever demands it checks it."""


class UpgradeStart(WireModel):
    """POST /v1/jobs/{id}/upgrade: start the enclave that gives the job's model, and the one that takes it."""

    giver: Digest
    """Measurement that the model is sealed to; the gateway must keep its image."""


class UpgradeDemand(WireModel):
    """POST /v1/jobs/{id}/upgrade/order: carry the job's model to the enclave that waits for it."""

    order: SignedUpgradeOrder
    taker: Evidence
    """The waiting enclave's evidence, over the order's nonce."""


MAX_LABEL_CHARACTERS = 100


class GuestRequest(WireModel):
    """POST /v1/jobs/{id}/guests: make an API key for somebody who may ask this job's predictor."""

    expires_at: Time
    """From then on the key is worth nothing."""
    label: str = Field(default="", max_length=MAX_LABEL_CHARACTERS)
    """Whose it is, in the owner's words. The operator reads them, too."""


class GuestInfo(WireModel):
    """An item of GET /v1/jobs/{id}/guests."""

    key_id: KeyId
    label: str = Field(max_length=MAX_LABEL_CHARACTERS)
    expires_at: Time
    created_at: str
    """RFC 3339, UTC."""
    last_used_at: str | None
    """To the minute; None if it was not used yet."""


class GuestKey(WireModel):
    """Answer to `GuestRequest`: the key is told this once."""

    guest: GuestInfo
    key: str = Field(max_length=MAX_KEY_CHARACTERS, repr=False)


class Health(WireModel):
    """GET /healthz."""

    status: Literal["ok"] = "ok"
