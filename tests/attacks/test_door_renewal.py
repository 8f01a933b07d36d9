"""A host keeps old collateral in a cache, or none at hand, so that a door outlives its evidence."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from chiron.runtime.attestation.platform import BOOT_NONCE
from chiron.runtime.attestation.ra_tls import verify_certificate
from chiron.runtime.attestation.validity import current_until
from chiron.runtime.channels.direct import attested_certificate
from chiron.runtime.channels.renewal import LONGEST_S, keep_current, wait_s
from chiron.runtime.errors import EvidenceRefused, PlatformUnavailable
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import Claims, Collateral, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.p256 import generate_key, public_key_der
from tests.support.specs import JOB
from tests.support.tee import IMAGE, MEASUREMENT, open_tee, policy_for

START = datetime.now(UTC)


class World:
    """A predictor's machine, whose clock the test turns; the host holds collateral back until `fetched`."""

    def __init__(self, directory: Path) -> None:
        self.tee = open_tee(directory)
        self.key = generate_key()
        self.now = START
        self.fetched = True
        self.shown: list[Evidence] = []
        self.waits: list[float] = []
        self.refusals = 0

    def make(self) -> Evidence:
        if not self.fetched:
            raise PlatformUnavailable("no collateral")
        digest = sha256_hex(public_key_der(self.key.public_key()))
        claims = Claims(
            role=Role.PREDICTOR,
            job=JOB,
            hpke_public_key=bytes(PUBLIC_KEY_BYTES),
            tls_public_key_sha256=digest,
            nonce=BOOT_NONCE,
        )
        collateral = Collateral.model_validate(self.tee.collateral(self.now))
        quote = self.tee.quote(IMAGE, claims.report_data())
        return Evidence(quote=quote, collateral=collateral, claims=claims)

    async def show(self, newer: Evidence) -> None:
        self.shown.append(newer)

    def verify(self) -> None:
        der = attested_certificate(self.key, self.shown[-1], START).public_bytes(Encoding.DER)
        verify_certificate(der, policy_for(self.tee, MEASUREMENT), Role.PREDICTOR, JOB, self.now)

    async def run(self, until: timedelta) -> None:
        """Let the door stay open so long, by a clock that goes as fast as it sleeps."""

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            self.now += timedelta(seconds=seconds)
            if self.now >= START + until:
                raise asyncio.CancelledError
            self.verify_or_count()

        self.shown.append(self.make())
        with pytest.raises(asyncio.CancelledError):
            await keep_current(self.shown[0], self.make, self.show, clock=lambda: self.now, sleep=sleep)

    def verify_or_count(self) -> None:
        try:
            self.verify()
        except EvidenceRefused:
            self.refusals += 1


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tee"))


async def test_a_door_that_stays_open_for_months_never_shows_expired_evidence(world: World) -> None:
    await world.run(timedelta(days=70))
    assert world.refusals == 0
    assert max(world.waits) == LONGEST_S


def test_evidence_that_is_shown_for_a_month_is_refused(world: World) -> None:
    """What a certificate that is never made anew comes to."""
    world.shown.append(world.make())
    world.verify()
    world.now = current_until(world.shown[0].collateral) + timedelta(seconds=1)
    with pytest.raises(EvidenceRefused):
        world.verify()


def test_collateral_handed_out_on_its_last_day_is_renewed_before_its_end(world: World) -> None:
    shown = world.make()
    end = current_until(shown.collateral)
    for hours in (24.0, 5.0, 1.0):
        assert wait_s(shown, end - timedelta(hours=hours), 0) == min(hours * 1800, LONGEST_S)
    for late in (timedelta(0), timedelta(days=3)):
        assert wait_s(shown, end + late, 0) == 60


def test_a_failure_is_tried_again_soon_and_then_less_often(world: World) -> None:
    shown = world.make()
    waits = [wait_s(shown, START, failures) for failures in range(1, 20)]
    assert waits[:4] == [60, 120, 240, 480]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_S
    end = current_until(shown.collateral)
    assert wait_s(shown, end - timedelta(minutes=10), 19) == 300


async def test_a_host_that_withholds_collateral_for_a_while_costs_minutes(world: World) -> None:
    world.shown.append(world.make())
    world.fetched = False
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            world.fetched = True
        if len(waits) == 6:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await keep_current(world.shown[0], world.make, world.show, clock=lambda: START, sleep=sleep)
    assert waits == [LONGEST_S, 60, 120, 240, LONGEST_S, LONGEST_S]
