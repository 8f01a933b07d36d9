"""Who comes to a predictor at its own door: its owner, holders of passes, and anybody else."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import PassFile, PassHolder, attested_connector
from chiron.client.errors import GatewayError
from chiron.client.gateway_session import GatewaySession
from chiron.client.ledger import Ledger, Ledgers
from chiron.client.opening import Opened
from chiron.client.passes import IssuedPass, PassBook
from chiron.client.store import JobRecord
from chiron.wire.attestation import Claims, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.opening import Pass
from tests.support.predictor_door import NO_GATEWAY, SPEC, Door
from tests.support.tee import IMAGE, QuotingServices, policy_for

ROWS = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3)
HOUR = 3600


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuotingServices]:
    """Quoting services for all tests of a module."""
    services = QuotingServices(tmp_path_factory.mktemp("q"))
    yield services
    services.close()


def seconds() -> int:
    """The time, since 1970."""
    return int(time.time())


def record_of(door: Door) -> JobRecord:
    """The owner's record of the job."""
    return door.store.job(SPEC.job)


def ledger_of(door: Door) -> Ledger:
    """What the owner's store says was lent."""
    return Ledgers(door.store).read(SPEC.job)


async def open_by_owner(door: Door, opened: list[Opened] | None = None) -> None:
    """The owner opens the predictor, or tells an open one what has changed."""
    await owner_asks(door, 0, opened)


async def owner_asks(door: Door, rows: int, opened: list[Opened] | None = None) -> None:
    """The owner opens the predictor if need be, and asks for `rows`, one a query."""
    noted = (lambda _: None) if opened is None else opened.append
    async with (
        door.client() as client,
        client.direct_predictor(SPEC.job, door.address, on_opened=noted) as session,
    ):
        for _ in range(rows):
            await session.predict(ROWS[:1])


def given_pass(door: Door, *, lent: bool = True, age_s: int = 0, **changes: Any) -> PassFile:
    """A pass as its owner makes it; without `lent` her predictors are never told of it."""
    key = Ed25519PrivateKey.generate()
    usual = {
        "id": sha256_hex(key.private_bytes_raw())[:32],
        "job": SPEC.job,
        "holder": key.public_key().public_bytes_raw(),
        "rows": 6,
        "until": seconds() + HOUR,
    }
    allowed = Pass.model_validate(usual | changes)
    if lent:
        PassBook(door.store).add(IssuedPass(allowed=allowed, issued_at=seconds() - age_s))
    return PassFile(
        allowed=allowed,
        holder_key=key.private_bytes_raw(),
        owner_public_key=record_of(door).signing_public_key,
        spec=SPEC,
        policy=policy_for(door.quoting.tee, IMAGE.measurement),
        gateway=NO_GATEWAY,
    )


async def holder_asks(door: Door, content: PassFile, rows: int = 1, wait_s: float = 0) -> Any:
    """What a holder is answered."""
    async with PassHolder(content) as holder:
        x = np.repeat(ROWS[:1], rows, axis=0)
        return await holder.predict(x, address=door.address, wait_s=wait_s)


def _session(door: Door) -> GatewaySession:
    connector = attested_connector(policy_for(door.quoting.tee, IMAGE.measurement), Role.PREDICTOR, SPEC.job)
    return GatewaySession(f"https://{door.address}", None, connector)


async def relayed(door: Door, path: str, sealed: bytes) -> str:
    """What somebody who brings this to the predictor is told; empty if it is taken."""
    async with _session(door) as session:
        try:
            await session.relay(path, sealed)
        except GatewayError as error:
            return error.code
    return ""


async def claims_of(door: Door) -> Claims:
    """What its evidence claims to whoever asks."""
    async with _session(door) as session:
        return (await session.evidence(SPEC.job, Role.PREDICTOR, bytes(32))).claims


async def predictor_key(door: Door) -> bytes:
    """The key that openings and queries are sealed to."""
    key = (await claims_of(door)).hpke_public_key
    assert key is not None
    return key


async def opened_key(door: Door) -> bytes:
    """That key, of a predictor that its owner has opened."""
    await open_by_owner(door)
    return await predictor_key(door)
