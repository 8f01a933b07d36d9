"""The grant: what a data owner entrusts to a parameter-server enclave that it has verified."""

from typing import Annotated, Literal

from pydantic import Field

from chiron.wire.attestation import AttestationPolicy, HpkePublicKey
from chiron.wire.contract import CapabilityGrants
from chiron.wire.encoding import Base64, Digest, Identifier, SigningPublicKey, WireModel


class PredictionPolicy(WireModel):
    """How much of the model's output the owner's own clients see, and how often."""

    top_k: int = Field(default=0, ge=0, le=100_000)
    """Classes returned per row, best first; 0 returns all."""
    decimals: int = Field(default=6, ge=0, le=9)
    """Scores are rounded to this many decimals."""
    query_budget: int | None = Field(default=None, ge=1)
    """Rows answered over the predictor's life; None is unlimited."""


class Grant(WireModel):
    """Sealed by HPKE to the key in the parameter server's evidence; the gateway only relays it."""

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
    owner_signing_key: SigningPublicKey
    """Names the owner for the model's whole life: signs upgrades; predictors' evidence shows its digest."""
