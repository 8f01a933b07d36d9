"""Re-sealing a model for newer enclave code, by the two predictor enclaves themselves.

1. The owner opens the old enclave A (`chiron.runtime.roles.model_lock`), verifies the new enclave B (evidence
   over a nonce of hers) and signs an order: job, what A and B must be, their keys, that nonce.
2. A checks that its model's owner signed the order, verifies B's evidence by it, and seals the model and the
   owner's share to the key in that evidence. Its own evidence is over the digest of that (`give`).
3. B verifies A's evidence by the order, opens, checks that the model's own owner signed that very order, and
   seals the model to itself and the share (`take`).

The host carries all of it and can do nothing but carry it. B cannot know by itself who the rightful owner is;
but it is locked then, and only the model's owner can open it. A answers no more.
`give_away` and `take_over` are the way to and from the host.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence, verify
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import EnclaveError, EvidenceRefused, ModelUnusable, SealingError, UpgradeRefused
from chiron.runtime.roles.predictor_keys import PredictorKeys
from chiron.runtime.roles.sealed_model import decode_model, encode_model, open_model, seal_model
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.machine_key import refusal
from chiron.runtime.sealing.padding import LENGTH_BYTES, pad, unpad
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import objects
from chiron.wire.attestation import AttestationPolicy, Evidence, Role
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import SignedUpgradeOrder, UpgradeMail, UpgradeOrder
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import MODEL, UPGRADE
from chiron.wire.launch import LaunchSpec


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
    platform: Platform,
    share: bytes,
    key: hpke.PrivateKey,
    attested: Callable[[bytes], Evidence],
    at: datetime,
) -> Transfer:
    """The giving enclave's part: share and model, sealed to the enclave `taker` is evidence of.

    `key` is our own; `attested` gives our evidence over a nonce.

    Raises:
        UpgradeRefused: the order is not this model's owner's, or the taker is not what it names.
        ModelUnusable: the model is not sealed to us.
    """
    header, onnx = open_model(spec, sealed_model, Sealer(platform, MODEL, share))
    _check_order(signed, header.owner_signing_key, spec)
    if sha256_hex(key.public_bytes) != signed.order.giver_key_sha256:
        raise UpgradeRefused("upgrade-for-another-giver", "the order names another enclave, or another start")
    verified = _verified(taker, signed.order.new, signed.order, signed.order.nonce, at)
    taker_key = verified.claims.hpke_public_key
    if taker_key is None or sha256_hex(taker_key) != signed.order.taker_key_sha256:
        raise UpgradeRefused("upgrade-for-another-taker", "the order names another enclave, or another start")
    content = share + encode_model(spec, header, onnx)
    padded = pad(content, objects.transfer(spec).content_bytes + LENGTH_BYTES)
    sealed = hpke.seal(taker_key, padded, label=UPGRADE, context=bytes.fromhex(spec.job))
    return Transfer(evidence=attested(hashlib.sha256(sealed).digest()), sealed=sealed)


def take(
    signed: SignedUpgradeOrder,
    transfer: Transfer,
    *,
    spec: JobSpec,
    key: hpke.PrivateKey,
    platform: Platform,
    at: datetime,
    allowed: Collection[str] = (),
) -> bytes:
    """The taking enclave's part: the model, sealed to ourselves and its owner's share.

    `allowed` has the keys (SHA-256) of machines that the operator lets the order name.

    Raises:
        UpgradeRefused: the giver is not what the order names, or the order not the model's owner's.
        ModelUnusable: what was sealed to us is not this job's model.
    """
    nonce = hashlib.sha256(transfer.sealed).digest()
    giver = _verified(transfer.evidence, signed.order.old, signed.order, nonce, at).claims
    if giver.hpke_public_key is None or sha256_hex(giver.hpke_public_key) != signed.order.giver_key_sha256:
        raise UpgradeRefused("upgrade-for-another-giver", "the order names another enclave, or another start")
    try:
        plaintext = unpad(hpke.open(key, transfer.sealed, label=UPGRADE, context=bytes.fromhex(spec.job)))
        share, content = plaintext[: objects.SHARE_BYTES], plaintext[objects.SHARE_BYTES :]
        header, onnx = decode_model(spec, content)
    except SealingError as error:
        raise UpgradeRefused("upgrade-unreadable", "the transfer is not sealed to us and this job") from error
    _check_order(signed, header.owner_signing_key, spec)
    refused = refusal(platform, signed.order.machines, allowed)
    if refused is not None:
        raise UpgradeRefused(refused, "the model is not sealed to a machine that the order names")
    return seal_model(spec, header, onnx, Sealer(platform, MODEL, share, machines=signed.order.machines))


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


async def give_away(
    mail: UpgradeMail,
    *,
    launch: LaunchSpec,
    platform: Platform,
    gateway: GatewayClient,
    keys: PredictorKeys,
    sealed_model: bytes,
    share: bytes,
) -> Evidence:
    """Store our model and share, sealed to the enclave that the owner's order names; our evidence over that.

    Raises:
        UpgradeRefused: it is not what the order names, or the order not the owner's.
        ModelUnusable: the stored model is not the one that was sealed to us.
    """
    transfer = await asyncio.to_thread(
        give,
        mail.order,
        mail.peer,
        spec=launch.spec,
        sealed_model=sealed_model,
        platform=platform,
        share=share,
        key=keys.key,
        attested=keys.evidence,
        at=datetime.now(UTC),
    )
    await gateway.put_object(objects.transfer(launch.spec).name, transfer.sealed)
    return transfer.evidence


async def take_over(
    launch: LaunchSpec, platform: Platform, gateway: GatewayClient, keys: PredictorKeys
) -> None:
    """Wait for a model on its way to us, and store it sealed to ourselves in place of what was there."""
    await gateway.ready(Ready())
    async for mail in gateway.mail():
        taken, reply = await _answer(mail, launch, platform, gateway, keys)
        await gateway.reply(mail, reply)
        if taken:
            return


async def _answer(
    mail: Mail, launch: LaunchSpec, platform: Platform, gateway: GatewayClient, keys: PredictorKeys
) -> tuple[bool, MailReply]:
    """Whether we have the model now, and the reply."""
    if mail.kind is MailKind.EVIDENCE and mail.evidence is not None:
        return False, MailReply(evidence=keys.evidence(mail.evidence.nonce))
    if mail.kind is not MailKind.TAKE or mail.upgrade is None:
        return False, MailReply(refusal="model-not-here-yet")
    try:
        await _take(mail.upgrade, launch, platform, gateway, keys)
    except (UpgradeRefused, ModelUnusable) as error:
        return False, MailReply(refusal=error.code)
    return True, MailReply()


async def _take(
    mail: UpgradeMail, launch: LaunchSpec, platform: Platform, gateway: GatewayClient, keys: PredictorKeys
) -> None:
    stored = objects.transfer(launch.spec)
    try:
        sealed = await gateway.get_object(stored.name, stored.stored_bytes)
    except EnclaveError as error:
        raise UpgradeRefused(error.code, "the host has no transfer for us") from error
    ours = await asyncio.to_thread(
        take,
        mail.order,
        Transfer(mail.peer, sealed),
        spec=launch.spec,
        key=keys.key,
        platform=platform,
        at=datetime.now(UTC),
        allowed=launch.machines or (),
    )
    # One write, whole or not at all: until then the model is what it was, and opens where it did.
    await gateway.put_object(objects.model(launch.spec).name, ours)
