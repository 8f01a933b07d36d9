"""What a data owner entrusts to enclaves that she has verified: a grant, or an order to move her model."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from chiron.wire.attestation import AttestationPolicy, Evidence, HpkePublicKey, Nonce
from chiron.wire.contract import CapabilityGrants, Oblivious
from chiron.wire.encoding import (
    Base64,
    Digest,
    Identifier,
    Share,
    Signature,
    SigningPublicKey,
    WireModel,
    canonical_json,
)
from chiron.wire.labels import GRANT_SIGNATURE, UPGRADE_ORDER, bind
from chiron.wire.machines import MAX_MACHINES, MachineKey


class PredictionPolicy(WireModel):
    """How much of the model's output the owner's own clients see, and how often."""

    top_k: int = Field(default=0, ge=0, le=100_000)
    """Classes returned per row, best first; 0 returns all."""
    decimals: int = Field(default=6, ge=0, le=9)
    """Scores are rounded to this many decimals."""
    query_budget: int | None = Field(default=None, ge=1)
    """Rows answered over the predictor's life; None is unlimited."""


class Restarts(StrEnum):
    """Who lets a job's enclaves go on after they were started again."""

    OWNER = "owner"
    """Its owner, who sends the grant again: what the host keeps opens with her share only."""
    ALONE = "alone"
    """The host: whatever the job needs to go on, its key too, is kept sealed to the processor alone."""


class Grant(WireModel):
    """What the owner lets a job's enclaves do with her data. It is sent as a `SignedGrant`."""

    version: Literal[1] = 1
    job: Identifier
    dataset_key: Annotated[Base64, Field(min_length=32, max_length=32)]
    dataset_digest: Digest
    spec_digest: Digest
    attestation: AttestationPolicy
    """What the parameter server demands of trainers, beyond being of its own measurement."""
    capabilities: CapabilityGrants = CapabilityGrants()
    prediction: PredictionPolicy = PredictionPolicy()
    owner_public_key: HpkePublicKey
    """Reports and the outcome are sealed to this key."""
    issued_at: int = Field(ge=0, lt=2**37)
    """Seconds since 1970 by the owner's clock. The host sets an enclave's clock, but not to before this:
    collateral that had expired by then stays expired."""
    expires_at: int = Field(ge=0, lt=2**37)
    """Seconds since 1970. From then on no enclave takes the grant up."""
    share: Share
    """Half of the key that models, budgets and checkpoints are sealed under; the processor has the other."""
    restarts: Restarts = Restarts.OWNER
    oblivious: Oblivious = Oblivious.CLAMPED
    """The spec's, whose digest is above: an enclave refuses a grant that says another."""
    machines: tuple[MachineKey, ...] = Field(default=(), max_length=MAX_MACHINES)
    """Where else what this job makes can be opened, with the share; the owner has verified each."""
    owner_signing_key: SigningPublicKey
    """Names the owner for the model's whole life: signs all that she sends; predictors' evidence shows its
    digest."""

    def signed_bytes(self, enclave_key_sha256: str) -> bytes:
        """What the owner signs: the label `chiron/v1/grant-signature`, job, digest of the HPKE key in the
        parameter server's evidence, and this grant's canonical JSON. So it counts for one start only."""
        to = bytes.fromhex(self.job) + bytes.fromhex(enclave_key_sha256)
        return bind(GRANT_SIGNATURE, to + canonical_json(self))


class SignedGrant(WireModel):
    """What is sealed to the parameter server. Signed with the key that the grant names its owner by."""

    grant: Grant
    signature: Signature
    """Ed25519 over `grant.signed_bytes(…)`."""


class UpgradeOrder(WireModel):
    """What the owner allows: one model, from code that it trusts to code that it trusts."""

    version: Literal[1] = 1
    job: Identifier
    old: AttestationPolicy
    """What the enclave that gives the model away must show."""
    new: AttestationPolicy
    """What the enclave that takes it must show."""
    nonce: Nonce
    """The taking enclave's evidence must be over it."""
    taker_key_sha256: Digest
    """Digest of the HPKE key in that evidence: an order is for one enclave's one start."""
    giver_key_sha256: Digest
    """The same of the enclave that gives: the owner has opened it."""
    machines: tuple[MachineKey, ...] = Field(default=(), max_length=MAX_MACHINES)
    """Where else the newer code opens the model; the owner has verified each."""

    def signed_bytes(self) -> bytes:
        """What the owner signs: the label `chiron/v1/upgrade-order` and this order's canonical JSON."""
        return bind(UPGRADE_ORDER, canonical_json(self))


class SignedUpgradeOrder(WireModel):
    """Signed with the key that the model names its owner by."""

    order: UpgradeOrder
    signature: Signature
    """Ed25519 over `order.signed_bytes()`."""


class UpgradeMail(WireModel):
    """What the giving and the taking enclave are handed: the order, and evidence of the other one."""

    order: SignedUpgradeOrder
    peer: Evidence
    """The giver is handed the taker's, over the order's nonce; the taker the giver's, over the transfer."""
