"""Moving a model to newer code by way of the host: mail and storage around `chiron.runtime.roles.upgrade`."""

import asyncio
from datetime import UTC, datetime

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import EnclaveError, ModelUnusable, UpgradeRefused
from chiron.runtime.roles.predictor_keys import PredictorKeys
from chiron.runtime.roles.sealed_model import ModelHeader
from chiron.runtime.roles.upgrade import Transfer, give, take
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import objects
from chiron.wire.attestation import Evidence
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Ready
from chiron.wire.grants import UpgradeMail
from chiron.wire.labels import MODEL
from chiron.wire.launch import LaunchSpec


async def give_away(
    mail: UpgradeMail,
    *,
    launch: LaunchSpec,
    platform: Platform,
    gateway: GatewayClient,
    keys: PredictorKeys,
    header: ModelHeader,
    answered: int,
) -> Evidence:
    """Store our model, sealed to the enclave that its owner's order names; our evidence over what we stored.

    Raises:
        UpgradeRefused: it is not what the order names, or the order not the owner's.
        ModelUnusable: the stored model is not the one that was sealed to us.
    """
    model = objects.model(launch.spec)
    sealed = await gateway.get_object(model.name, model.stored_bytes)
    transfer = await asyncio.to_thread(
        give,
        mail.order,
        mail.peer,
        spec=launch.spec,
        sealed_model=sealed,
        sealer=Sealer(platform, MODEL),
        answered=answered,
        attested=lambda nonce: keys.evidence(nonce, header.owner_signing_key),
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
        sealer=Sealer(platform, MODEL),
        at=datetime.now(UTC),
    )
    # One write, whole or not at all: until then the model is what it was, and opens where it did.
    await gateway.put_object(objects.model(launch.spec).name, ours)
