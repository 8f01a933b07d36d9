"""Every role, started from the image alone by the real launcher, speaks to a real gateway."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from chiron.api.jobs.fleet import LaunchedEnclave
from chiron.api.keys import TenantRole
from chiron.api.launchers.local import LocalLauncher, LocalOptions
from chiron.api.launchers.local_enclave import LocalEnclave
from chiron.api.server import RunningGateway, running_gateway
from chiron.api.settings import Settings, Timing
from chiron.client.gateway_session import GatewaySession
from chiron.enclave_image.contents import PACKAGES
from chiron.enclave_image.measurement import measure
from chiron.runtime.__main__ import EXIT_REFUSED
from chiron.runtime.attestation.steps import Step
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import EvidenceRefused
from chiron.wire.attestation import AttestationPolicy, Role
from tests.launchers.conftest import alive
from tests.support.builders import tiny
from tests.support.caller import Caller, created_job, prepared
from tests.support.images import copied, inside, make_it_start, replace


@dataclass
class World:
    """A gateway with real enclaves, one job of two trainers, and its owner."""

    running: RunningGateway
    launcher: LocalLauncher
    owner: GatewaySession
    job: str
    state_dir: Path

    async def enclave(self, role: Role, index: int = 0) -> LaunchedEnclave:
        """Once it is launched."""
        async with asyncio.timeout(60):
            while True:
                found = self.running.gateway.fleet.find(self.job, role, index)
                if found is not None and found.handle is not None:
                    return found
                await asyncio.sleep(0.01)

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in (self.state_dir / "logs").iterdir())

    async def verified(self, measurement: str) -> None:
        """Raises EvidenceRefused if the parameter server's evidence does not hold."""
        nonce = secrets.token_bytes(32)
        evidence = await self.owner.evidence(self.job, Role.PARAMETER_SERVER, nonce)
        policy = AttestationPolicy(measurements=(measurement,), software_root=self.launcher.tee.root_der)
        expected = Expected(Role.PARAMETER_SERVER, self.job, nonce)
        verify(evidence, policy, expected, datetime.now(UTC))


@asynccontextmanager
async def world(image: Path, state_dir: Path) -> AsyncIterator[World]:
    """A job whose enclaves are launched from `image`."""
    settings = Settings(state_dir=state_dir, port=0, timing=Timing(relay_s=30))
    launcher = await LocalLauncher.open(settings, LocalOptions(image=image))
    async with (
        aiohttp.ClientSession() as session,
        running_gateway(settings, launcher) as running,
    ):
        create = running.gateway.keys.create
        keys = [await create("op", TenantRole.OPERATOR), await create("hospital", TenantRole.OWNER)]
        operator, owner = (Caller(session, running.url, key) for key in keys)
        job = await created_job(owner, await prepared(operator, owner, tiny()))
        async with GatewaySession(running.url, keys[1]) as speaking:
            yield World(running, launcher, speaking, job, state_dir)


async def test_owner_verifies_a_parameter_server_that_runs_from_the_image(
    image: Path, short_path: Path
) -> None:
    async with world(image, short_path) as there:
        await there.verified(there.launcher.measurement)
        trainers = [await there.enclave(Role.TRAINER, index) for index in range(2)]
        assert [trainer.exit_code for trainer in trainers] == [None, None]
        enclaves = [await there.enclave(Role.PARAMETER_SERVER), *trainers]
        processes = [_process(enclave) for enclave in enclaves]
        assert all(map(alive, processes))
    assert not any(map(alive, processes))


async def test_owner_refuses_an_image_of_which_one_byte_was_changed(image: Path, short_path: Path) -> None:
    changed = short_path / "image"
    await asyncio.to_thread(_copy_with_one_byte_changed, image, changed)
    async with world(changed, short_path / "s") as there:
        assert there.launcher.measurement == measure(changed) != measure(image)
        await there.verified(measure(changed))
        with pytest.raises(EvidenceRefused) as refused:
            await there.verified(measure(image))
    assert refused.value.steps[-1].step is Step.MEASUREMENT


async def test_predictor_without_a_model_ends_with_a_code_and_no_trace(image: Path, short_path: Path) -> None:
    async with world(image, short_path) as there:
        fleet = there.running.gateway.fleet
        spec = (await there.enclave(Role.PARAMETER_SERVER)).spec
        predictor, token = fleet.register("hospital", spec, Role.PREDICTOR)
        await fleet.start(predictor, token)
        async with asyncio.timeout(30):
            await predictor.gone.wait()
        assert predictor.exit_code == EXIT_REFUSED
        assert "object-unknown" in there.logs()
        assert token.split(".")[1] not in there.logs()


def _copy_with_one_byte_changed(image: Path, copy: Path) -> None:
    copied(image, copy)
    victim = inside(copy, PACKAGES / "chiron/runtime/__init__.py")
    replace(victim, victim.read_bytes() + b"\n")
    make_it_start(copy)


def _process(enclave: LaunchedEnclave) -> int:
    assert isinstance(enclave.handle, LocalEnclave)
    return enclave.handle.process_id
