"""Moving a sealed model from enclave code A to enclave code B, as its owner ordered."""

from typing import Literal

from chiron.wire.attestation import AttestationPolicy, Evidence, Nonce
from chiron.wire.encoding import Digest, Identifier, Signature, WireModel, canonical_json
from chiron.wire.labels import UPGRADE_ORDER, bind


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
    """To the giver: the taker's, over the order's nonce. To the taker: the giver's, over the transfer."""
