"""A gateway that starts again: nothing stored is lost, and nothing is believed to run that does not."""

import asyncio
import base64
import shutil
import signal
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chiron.api.errors import StorageError, StorageInUse, StorageVersion
from chiron.api.jobs.supervisor import remaining_s
from chiron.api.server import running_gateway
from chiron.api.settings import Settings
from chiron.api.storage.tables import SCHEMA_VERSION
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import GatewayRefused
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Ready
from chiron.wire.launch import GatewayChannel
from tests.api.conftest import Party, party, settings_in
from tests.support.launcher import SimulatedLauncher
from tests.support.scripts import Scripts, scripted, silent

SEALED = {"sealed": base64.b64encode(b"sealed").decode()}


async def test_the_first_start_makes_keys_once(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    async with running_gateway(settings, launcher) as running:
        assert running.first_keys is not None
        assert running.first_keys.operator != running.first_keys.owner
    assert launcher.closed
    async with running_gateway(settings, scripted(settings.socket_path)) as running:
        assert running.first_keys is None


async def test_two_gateways_do_not_share_a_state_directory(world: Party, settings: Settings) -> None:
    second = scripted(settings.socket_path)
    with pytest.raises(StorageInUse):
        async with running_gateway(settings, second):
            pass
    assert second.closed
    assert (await world.as_enclave("GET", "/mailbox", "x")).code == "unauthenticated"


async def test_a_stopped_gateway_ends_its_enclaves_and_takes_their_jobs_up_at_the_next_start(
    settings: Settings, component: bytes
) -> None:
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings, launcher):
        job = await world.create_job(component)
        await launcher.launched(3)
        headers = world.owner.headers
    assert not launcher.running
    assert launcher.released == [job]
    async for again in party(settings, scripted(settings.socket_path)):
        again.owner.headers = headers
        assert (await again.owner("GET", f"/v1/jobs/{job}")).json["failure"] is None
        assert (await again.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)).status == 204
        assert (await again.end_of(job))["state"] == "succeeded"


async def test_what_a_killed_gateway_left_goes_on(settings: Settings, component: bytes) -> None:
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings, launcher):
        job = await world.create_job(component)
        await launcher.launched(3)
        copy = settings_in(settings.state_dir / "copy")
        _copy_as_killed(settings.state_dir, copy.state_dir)
        owner, token = world.owner, launcher.orders[0].token

    async for again in party(copy, scripted(copy.socket_path)):
        again.owner.headers = owner.headers
        assert (await again.as_enclave("GET", "/mailbox", token)).code == "unauthenticated"
        assert (await again.owner("GET", f"/v1/datasets/{'ab' * 16}")).json["complete"] is True
        await again.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)
        events = await again.events(job)
        assert [event["state"] for event in events].count("created") == 1
        assert events[-1]["state"] == "succeeded"
        done = [event["exchanges_done"] for event in events]
        assert done == sorted(done)


@pytest.mark.parametrize(
    ("limits", "timing", "code"),
    [
        ({"launches": 2}, {}, "enclave-exited"),
        ({}, {"job_s": 1e-3}, "deadline-exceeded"),
    ],
)
async def test_a_job_is_not_taken_up_for_ever(
    settings: Settings, component: bytes, limits: dict[str, int], timing: dict[str, float], code: str
) -> None:
    """The number of launches is bounded, and the deadline counts from the job's creation."""
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for world in party(settings, launcher):
        job = await world.create_job(component)
        await launcher.launched(3)
        headers = world.owner.headers
    again = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async for _ in party(settings, again):
        await again.launched(3)
    strict = settings.model_copy(
        update={
            "limits": settings.limits.model_copy(update=limits),
            "timing": settings.timing.model_copy(update=timing),
        }
    )
    last = scripted(settings.socket_path)
    async for world in party(strict, last):
        world.owner.headers = headers
        assert (await world.end_of(job))["failure"] == code
    assert not last.orders


@pytest.mark.parametrize(
    ("created", "left"),
    [
        ("2026-01-01T00:00:00.000Z", 70.0),
        ("2026-01-01T01:00:00.000Z", 100.0),
        ("2025-01-01T00:00:00.000Z", 0),
    ],
    ids=["usual", "the clock was set back", "the clock was set forward, or long ago"],
)
def test_a_clock_that_jumps_gives_a_job_no_more_than_its_time(created: str, left: float) -> None:
    remaining = remaining_s(created, datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC), 100)
    assert max(remaining, 0) == left


async def test_a_predictor_that_ran_is_launched_again_with_the_gateway(
    settings: Settings, component: bytes
) -> None:
    async for world in party(settings, scripted(settings.socket_path)):
        job = await world.create_job(component)
        await world.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)
        await world.end_of(job)
        await world.owner("POST", f"/v1/jobs/{job}/predictor")
        assert (await world.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).status == 200
        headers = world.owner.headers
    async for again in party(settings, scripted(settings.socket_path)):
        again.owner.headers = headers
        assert (await again.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).status == 200
        await again.owner("DELETE", f"/v1/jobs/{job}/predictor")
    async for third in party(settings, scripted(settings.socket_path)):
        third.owner.headers = headers
        refused = await third.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)
        assert refused.code == "enclave-not-running"


async def test_a_model_outlives_the_gateway(settings: Settings, component: bytes) -> None:
    async for world in party(settings, scripted(settings.socket_path)):
        job = await world.create_job(component)
        await world.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)
        assert (await world.end_of(job))["state"] == "succeeded"
        headers = world.owner.headers
    async for again in party(settings, scripted(settings.socket_path)):
        again.owner.headers = headers
        assert (await again.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
        assert (await again.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).status == 200
        assert await _replayed(again, job)


async def test_the_predictor_of_a_job_that_did_not_succeed_is_refused(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).code == "job-not-succeeded"
    assert (await world.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).code == "enclave-not-running"
    assert (await world.owner("DELETE", f"/v1/jobs/{job}/predictor")).code == "enclave-not-running"


async def test_a_predictor_that_crashed_is_started_again(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    await world.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)
    await world.end_of(job)
    for _ in range(2):
        assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
        assert (await world.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).status == 200
        (crashed,) = world.launcher.running
        crashed.signal(signal.SIGKILL)
        await crashed.wait()
        await asyncio.sleep(0.05)
        assert (
            await world.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)
        ).code == "enclave-not-running"


async def test_a_socket_left_by_a_killed_gateway_is_no_obstacle(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    settings.state_dir.mkdir(exist_ok=True)
    server = await asyncio.start_unix_server(lambda *_: None, settings.socket_path)
    server.close()
    settings.socket_path.touch()
    settings.socket_path.unlink()
    async with running_gateway(settings, launcher):
        assert settings.socket_path.stat().st_mode & 0o777 == 0o600
        assert settings.state_dir.stat().st_mode & 0o777 in (0o700, 0o755)


async def test_a_database_of_the_first_version_goes_on(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    async with running_gateway(settings, launcher) as running:
        keys = running.first_keys
    assert keys is not None
    with sqlite3.connect(settings.state_dir / "gateway.sqlite3") as connection:
        connection.execute("DROP INDEX ix_api_keys_job")
        for column in ("expires_at", "last_used_at", "label", "job", "by_hash"):
            connection.execute(f"ALTER TABLE api_keys DROP COLUMN {column}")
        connection.execute("UPDATE schema SET version = 1")
    connection.close()
    async with running_gateway(settings, scripted(settings.socket_path)) as running:
        assert running.first_keys is None
        assert (await running.gateway.keys.authenticate(keys.owner)).tenant == "owner"
        assert [row.by_hash for row in await running.gateway.keys.listed()] == [False, False]
    with sqlite3.connect(settings.state_dir / "gateway.sqlite3") as connection:
        assert connection.execute("SELECT version FROM schema").fetchall() == [(SCHEMA_VERSION,)]
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'ix_api_keys_job'").fetchall()
    connection.close()


async def test_a_database_of_a_later_version_is_refused(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    async with running_gateway(settings, launcher):
        pass
    with sqlite3.connect(settings.state_dir / "gateway.sqlite3") as connection:
        connection.execute("UPDATE schema SET version = 99")
    connection.close()
    with pytest.raises(StorageVersion, match="99"):
        async with running_gateway(settings, scripted(settings.socket_path)):
            pass


async def test_a_file_that_is_no_database_is_refused(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    (settings.state_dir / "gateway.sqlite3").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError):
        async with running_gateway(settings, launcher):
            pass
    assert launcher.closed


async def test_the_enclave_api_is_served_over_tcp_where_the_settings_say_so(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    async with running_gateway(
        settings.model_copy(update={"enclave_host": "127.0.0.1"}), launcher
    ) as running:
        channel = GatewayChannel(url=running.enclave_url or "", token="x")
        async with GatewayClient(channel) as gateway:
            with pytest.raises(GatewayRefused) as refused:
                await gateway.ready(Ready())
    assert refused.value.code == "unauthenticated"


def _copy_as_killed(source: Path, target: Path) -> None:
    """What is on disk while the gateway still runs: what a killed one leaves."""
    shutil.copytree(source / "blobs", target / "blobs")
    with (
        sqlite3.connect(source / "gateway.sqlite3") as live,
        sqlite3.connect(target / "gateway.sqlite3") as copy,
    ):
        live.backup(copy)
    live.close()
    copy.close()


async def _replayed(world: Party, job: str) -> bool:
    whole = await world.events(job)
    part = await world.events(job, after=whole[2]["sequence"])
    return part == whole[3:] and [event["sequence"] for event in whole] == list(range(1, len(whole) + 1))
