"""Moving a sealed model from enclave code A to enclave code B, as its owner ordered."""

from typing import Annotated, Literal

from pydantic import Field

from runtime.wire.attestation import AttestationPolicy, Evidence, Nonce
from runtime.wire.encoding import Base64, Identifier, Signature, WireModel

MAX_TRANSFER_BYTES = 2**30


class UpgradeOrder(WireModel):
    """What the owner allows: one model, from code that it trusts to code that it trusts."""

    version: Literal[1] = 1
    job: Identifier
    old: AttestationPolicy
    """What the enclave that gives the model away must show."""
    new: AttestationPolicy
    """What the enclave that takes it must show."""
    nonce: Nonce
    """The taking enclave's evidence must be over it: an order is for one enclave's one start."""


class SignedUpgradeOrder(WireModel):
    """Signed with the key that the model names its owner by."""

    order: UpgradeOrder
    signature: Signature
    """Over label `chiron/v1/upgrade-order` and the order's canonical JSON."""


class Transfer(WireModel):
    """The model on its way: for the taking enclave only, and provably from the giving one."""

    evidence: Evidence
    """The giving enclave's, over SHA-256 of `sealed` as its nonce."""
    sealed: Annotated[Base64, Field(min_length=1, max_length=MAX_TRANSFER_BYTES)]
    """HPKE to the key in the taking enclave's evidence, padded as every model of the job."""
