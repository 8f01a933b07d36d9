"""Tells the gateway that a predictor is in use at its own door, which it does not see: it ends idle ones."""

import asyncio
import math
import time
from contextlib import suppress

from chiron.runtime.channels.direct import Answer
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import EnclaveError
from chiron.wire.enclave_api import Mail, MailKind, MailReply, Ready

TOLD_EVERY_S = 60.0
_PATIENCE_S = 1.0
"""An answer waits no longer for a gateway that is away."""


def telling_use(gateway: GatewayClient, answer: Answer, *, every_s: float = TOLD_EVERY_S) -> Answer:
    """`answer`, after which the gateway is told of the use, once in `every_s` at most.

    It learns no more by it than whoever watches the network: that somebody came who was answered. Evidence,
    which every stranger may ask for, counts as no use.
    """
    told_at = -math.inf

    async def answered(mail: Mail) -> MailReply:
        nonlocal told_at
        reply = await answer(mail)
        now = time.monotonic()
        if mail.kind is not MailKind.EVIDENCE and reply.refusal is None and now - told_at >= every_s:
            told_at = now
            with suppress(EnclaveError, TimeoutError):
                await asyncio.wait_for(gateway.ready(Ready()), _PATIENCE_S)
        return reply

    return answered
