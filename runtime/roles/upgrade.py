"""Re-sealing a model for newer enclave code, by the two predictor enclaves themselves.

1. The owner verifies the new enclave B (evidence over a nonce of hers) and signs an order: job, what A must
   be, what B must be, that nonce.
2. A opens the model, checks that its owner signed the order, verifies B's evidence by it, and seals the model
   to the key in that evidence. Its own evidence is over the digest of what it sealed (`give`).
3. B verifies A's evidence by the order, opens, checks that the model's own owner signed that very order, and
   seals the model to itself (`take`).

The host carries all of it and can do nothing but carry it. B cannot know by itself who the rightful owner is;
but its evidence from then on names the key of the model's owner, and the owner's client accepts no other.
How many rows the model has answered moves with it, so that its query budget does not begin again.
`chiron.runtime.roles.moving` is the way to and from the host.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chiron.runtime.attestation.verify import Expected, VerifiedEvidence, verify
from chiron.runtime.errors import EvidenceRefused, SealingError, UpgradeRefused
from chiron.runtime.roles.sealed_model import decode_model, encode_model, open_model, seal_model
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.padding import LENGTH_BYTES, pad, unpad
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import objects
from chiron.wire.attestation import AttestationPolicy, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import SignedUpgradeOrder, UpgradeOrder
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import UPGRADE


@dataclass(frozen=True)
class Transfer:
    """The model on its way: for the taking enclave only, and provably from the giving one."""

    evidence: Evidence
    """The giving enclave's, over SHA-256 of `sealed` as its nonce."""
    sealed: bytes
    """HPKE to the key in the taking enclave's evidence, of one size (`chiron.wire.objects.transfer`)."""


def give(
    signed: SignedUpgradeOrder,
    taker: Evidence,
    *,
    spec: JobSpec,
    sealed_model: bytes,
    sealer: Sealer,
    answered: int,
    attested: Callable[[bytes], Evidence],
    at: datetime,
) -> Transfer:
    """The giving enclave's part: the model, sealed to the enclave `taker` is evidence of.

    `answered` rows have been taken from its query budget so far; `attested` gives our own evidence over a
    nonce.

    Raises:
        UpgradeRefused: the order is not this model's owner's, or the taker is not what it names.
        ModelUnusable: the model is not sealed to us.
    """
    header, onnx = open_model(spec, sealed_model, sealer)
    _check_order(signed, header.owner_signing_key, spec)
    verified = _verified(taker, signed.order.new, signed.order, signed.order.nonce, at)
    key = verified.claims.hpke_public_key
    if key is None or sha256_hex(key) != signed.order.taker_key_sha256:
        raise UpgradeRefused("upgrade-for-another-taker", "the order names another enclave, or another start")
    moved = header.model_copy(update={"rows_answered": answered, "moves": header.moves + 1})
    content = bytes(encode_model(spec, moved, onnx))
    padded = pad(content, objects.transfer(spec).content_bytes + LENGTH_BYTES)
    sealed = hpke.seal(key, padded, label=UPGRADE, context=bytes.fromhex(spec.job))
    return Transfer(evidence=attested(hashlib.sha256(sealed).digest()), sealed=sealed)


def take(
    signed: SignedUpgradeOrder,
    transfer: Transfer,
    *,
    spec: JobSpec,
    key: hpke.PrivateKey,
    sealer: Sealer,
    at: datetime,
) -> bytes:
    """The taking enclave's part: the model, sealed to ourselves.

    Raises:
        UpgradeRefused: the giver is not what the order names, or the order not the model's owner's.
        ModelUnusable: what was sealed to us is not this job's model.
    """
    nonce = hashlib.sha256(transfer.sealed).digest()
    _verified(transfer.evidence, signed.order.old, signed.order, nonce, at)
    try:
        plaintext = hpke.open(key, transfer.sealed, label=UPGRADE, context=bytes.fromhex(spec.job))
        header, onnx = decode_model(spec, unpad(plaintext))
    except SealingError as error:
        raise UpgradeRefused("upgrade-unreadable", "the transfer is not sealed to us and this job") from error
    _check_order(signed, header.owner_signing_key, spec)
    return seal_model(spec, header, onnx, sealer)


def _check_order(signed: SignedUpgradeOrder, owner: bytes, spec: JobSpec) -> None:
    if signed.order.job != spec.job:
        raise UpgradeRefused("upgrade-for-another-job", "the order names another job")
    try:
        Ed25519PublicKey.from_public_bytes(owner).verify(signed.signature, signed.order.signed_bytes())
    except (InvalidSignature, ValueError) as error:
        raise UpgradeRefused("upgrade-unsigned", "the model's owner did not sign this order") from error


def _verified(
    evidence: Evidence, policy: AttestationPolicy, order: UpgradeOrder, nonce: bytes, at: datetime
) -> VerifiedEvidence:
    try:
        return verify(evidence, policy, Expected(Role.PREDICTOR, order.job, nonce), at)
    except EvidenceRefused as error:
        raise UpgradeRefused(error.code, "the other enclave's evidence does not hold") from error
