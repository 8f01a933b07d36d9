"""A real gateway on loopback and a real Unix socket, with simulated enclaves."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chiron.api.keys import TenantRole
from chiron.api.server import RunningGateway, running_gateway
from chiron.api.settings import Limits, Settings, Timing
from tests.support.builders import tiny
from tests.support.caller import Answer, Caller, created_job, prepared
from tests.support.launcher import SimulatedLauncher
from tests.support.scripts import Scripts, scripted


@dataclass
class Party:
    """A running gateway and everybody who speaks to it."""

    running: RunningGateway
    launcher: SimulatedLauncher[Scripts]
    operator: Caller
    owner: Caller
    stranger: Caller
    """An owner of another tenant."""
    nobody: Caller
    enclaves: aiohttp.ClientSession
    """Speaks to the enclave-facing socket."""

    async def as_enclave(self, method: str, path: str, token: str | None, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://gateway/enclave/v1{path}"
        async with self.enclaves.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def prepare(self, component: bytes) -> dict[str, Any]:
        """A builder and a dataset, and the request of a job with them."""
        return await prepared(self.operator, self.owner, component)

    async def create_job(self, component: bytes, **changes: Any) -> str:
        return await created_job(self.owner, await self.prepare(component) | changes)

    async def events(self, job: str, after: int = 0, caller: Caller | None = None) -> list[dict[str, Any]]:
        """All events until the job's end."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        answer = await (caller or self.owner)("GET", f"/v1/jobs/{job}/events", headers=headers)
        assert answer.status == 200, answer.raw
        found = []
        for block in answer.raw.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append(json.loads(fields["data"]) | {"sequence": int(fields["id"])})
        return found

    async def end_of(self, job: str) -> dict[str, Any]:
        """The job's last event."""
        return (await self.events(job))[-1]


def settings_in(directory: Path, **changes: Any) -> Settings:
    """Fast settings; the socket's path must be short."""
    timing = Timing(relay_s=3, enclave_stop_s=1, last_trainer_s=0.3, shutdown_s=1, event_keepalive_s=0.2)
    return Settings(
        state_dir=directory, port=0, **({"timing": timing, "limits": Limits(trainers=4)} | changes)
    )


async def party(settings: Settings, launcher: SimulatedLauncher[Scripts]) -> AsyncIterator[Party]:
    """Everybody, around a gateway with `settings`."""
    async with (
        aiohttp.ClientSession() as session,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(settings.socket_path))) as enclaves,
        running_gateway(settings, launcher) as running,
    ):
        create = running.gateway.keys.create
        keys = [
            await create("op", TenantRole.OPERATOR),
            await create("hospital", TenantRole.OWNER),
            await create("rival", TenantRole.OWNER),
            None,
        ]
        operator, owner, stranger, nobody = (Caller(session, running.url, key) for key in keys)
        yield Party(running, launcher, operator, owner, stranger, nobody, enclaves)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def launcher(settings: Settings) -> SimulatedLauncher[Scripts]:
    return scripted(settings.socket_path)


@pytest.fixture
async def world(settings: Settings, launcher: SimulatedLauncher[Scripts]) -> AsyncIterator[Party]:
    async for everybody in party(settings, launcher):
        yield everybody


@pytest.fixture(scope="session")
def component() -> bytes:
    """A real component of the builders' world, the smallest there is."""
    return tiny()
