"""The predictor role: opens the sealed model of its own measurement and answers sealed queries."""

import asyncio
import logging

from runtime.attestation.evidence import attest
from runtime.attestation.platform import Platform, SealingPolicy
from runtime.channels.gateway import GatewayClient
from runtime.errors import ModelUnusable, QueryRefused
from runtime.prediction import Model
from runtime.queries import Answer, decode_query, encode_answer
from runtime.roles import sealed_model
from runtime.sealing import blob, hpke
from runtime.sealing.errors import SealingError
from runtime.sealing.labels import ANSWER, MODEL, QUERY
from runtime.wire.attestation import Claims, Evidence, Role
from runtime.wire.enclave_api import Mail, MailKind, MailReply, Ready, SealedMessage
from runtime.wire.launch import LaunchSpec

_LOG = logging.getLogger(__name__)


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Answer queries until the launcher ends us."""
    async with GatewayClient(launch.gateway) as gateway:
        predictor = _Predictor(launch, platform, await _open_model(launch, platform, gateway))
        await gateway.ready(Ready())
        async for mail in gateway.mail():
            await gateway.reply(mail, await predictor.answer(mail))
