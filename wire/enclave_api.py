"""What enclaves and the gateway say to each other (`/enclave/v1/…`). The gateway only carries it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chiron.wire.attestation import Evidence, Nonce
from chiron.wire.encoding import Base64, Identifier, WireModel
from chiron.wire.grants import UpgradeMail
from chiron.wire.jobs import JobState, PublicFailure

MAX_SEALED_MESSAGE_BYTES = 64 * 2**20


class MailKind(StrEnum):
    """What the gateway hands to an enclave on the owner's behalf."""

    EVIDENCE = "evidence"
    GRANT = "grant"
    OPEN = "open"
    """Carries the opening of a predictor that is locked, or a newer one."""
    QUERY = "query"
    GIVE = "give"
    """Tells a predictor to seal its model to newer code, as the owner ordered."""
    TAKE = "take"
    """Tells a predictor that has no model yet that one is on its way."""


class EvidenceRequest(WireModel):
    """Quote fresh evidence over this nonce."""

    nonce: Nonce


class SealedMessage(WireModel):
    """Ciphertext that the gateway relays: a grant, an opening, a query or an answer."""

    sealed: Annotated[Base64, Field(min_length=1, max_length=MAX_SEALED_MESSAGE_BYTES)]


class Mail(WireModel):
    """GET /enclave/v1/mailbox: the next message to this enclave."""

    id: Identifier
    kind: MailKind
    evidence: EvidenceRequest | None = None
    message: SealedMessage | None = None
    upgrade: UpgradeMail | None = None


class MailReply(WireModel):
    """POST /enclave/v1/mailbox/{id}: the enclave's answer; at most one field is set, none for done."""

    evidence: Evidence | None = None
    message: SealedMessage | None = None
    refusal: str | None = Field(default=None, pattern=r"^[a-z][a-z-]{0,62}$")
    """Stable code of why the enclave refused; it never depends on data."""


class Ready(WireModel):
    """POST /enclave/v1/ready: the enclave is up and where its peers find it."""

    address: str | None = Field(default=None, max_length=255)
    """host:port of the parameter server's TLS endpoint."""
    evidence: Evidence | None = None
    """Evidence (zero nonce) that peers check before they trust that endpoint."""
    tls_ca: Annotated[Base64, Field(min_length=1, max_length=4096)] | None = None
    """DER of the job CA's certificate, whose digest the evidence claims."""


class Progress(WireModel):
    """POST /enclave/v1/progress: the public schedule's progress, or that it waits for the owner."""

    state: JobState
    exchanges_done: int = Field(default=0, ge=0)
    failure: PublicFailure | None = None
    slot_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """A paced job's slot before an exchange, which is public."""
    again: bool = False
    """With `awaiting-grant`, of a job that had its grant: the owner must send it again. The state stays."""


class ObjectInfo(WireModel):
    """One sealed object of a job in the operator's storage."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")
    size: int = Field(ge=0)


class Observation(WireModel):
    """One thing that the operator's side stored or relayed for a job: all it ever holds of it."""

    kind: str = Field(pattern=r"^[a-z][a-z-]{0,31}$")
    name: str = Field(max_length=128)
    size: int = Field(ge=0)
