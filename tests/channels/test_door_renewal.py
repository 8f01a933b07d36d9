"""A door's certificate never outlives its collateral: it is made anew while the door stays open."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chiron.runtime.channels import renewal
from chiron.wire.grants import PredictionPolicy
from tests.support.predictor_door import Door, predictor_door
from tests.support.tee import QuotingServices


@pytest.fixture
async def door(
    quoting: QuotingServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    monkeypatch.setattr(renewal, "wait_s", lambda *_: 0.2)
    async with predictor_door(quoting, tmp_path, PredictionPolicy()) as door:
        yield door


async def shown_by(door: Door) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = door.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def test_certificate_is_made_anew_while_the_door_stays_open(door: Door) -> None:
    first = await shown_by(door)
    async with asyncio.timeout(60):
        while await shown_by(door) == first:
            pass
