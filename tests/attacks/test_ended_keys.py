"""Keys that end while their callers are being answered for long, and connections that wait for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from chiron.api.errors import Unauthenticated
from chiron.api.key_watch import KeyWatch, until
from chiron.api.keys import KeyRing, Principal, TenantRole, opened_keys
from chiron.api.settings import Settings, Timing
from chiron.api.storage.database import Database
from chiron.wire.attestation import Role
from chiron.wire.jobs import JobState
from tests.support.caller import Caller
from tests.support.party import Party, party, settings_in
from tests.support.scripts import scripted, silent

GRANT = {"sealed": "Z3JhbnQ="}


@pytest.fixture
async def quiet(tmp_path: Path) -> AsyncIterator[Party]:
    """A gateway whose event streams say nothing for a long time while nothing happens."""
    settings = settings_in(tmp_path, timing=Timing(event_keepalive_s=60, enclave_stop_s=1, shutdown_s=1))
    launcher = scripted(settings.socket_path)
    launcher.backend.scripts[Role.TRAINER] = silent
    async for world in party(settings, launcher):
        yield world


async def following(world: Party, job: str, key: str) -> aiohttp.ClientResponse:
    caller = Caller(world.nobody.session, world.nobody.url, key)
    url = f"{caller.url}/v1/jobs/{job}/events"
    stream = await caller.session.get(url, headers=caller.headers)
    assert b"id: 1\n" in await stream.content.readuntil(b"\n\n")
    return stream


@pytest.mark.parametrize("by", ["another process", "its end"])
async def test_attack_a_stream_of_a_key_that_ended_stays_open_while_nothing_happens(
    quiet: Party, component: bytes, by: str
) -> None:
    job, keys = await quiet.create_job(component), quiet.running.gateway.keys
    soon = datetime.now(UTC) + timedelta(seconds=0.6) if by == "its end" else None
    leaked = await keys.create("hospital", TenantRole.AUDITOR, expires_at=soon)
    good = await keys.create("hospital", TenantRole.AUDITOR)
    stream, other = await following(quiet, job, leaked), await following(quiet, job, good)
    if soon is None:
        # As `chiron keys revoke` does, while the gateway runs.
        async with opened_keys(quiet.running.gateway.settings) as theirs:
            assert await theirs.revoke(leaked.split("_")[1])
    await asyncio.wait_for(stream.content.read(), 2)
    assert (await quiet.owner("POST", f"/v1/jobs/{job}/cancel")).status == 200
    assert str(JobState.CANCELLED).encode() in await asyncio.wait_for(other.content.read(), 5)


async def test_attack_an_object_that_is_fetched_with_a_revoked_key_goes_on_and_on() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"ciphertext"

    content = until(ended, endless())
    assert await anext(content) == b"ciphertext"
    ended.set()
    with pytest.raises(Unauthenticated):
        await anext(content)


async def test_keys_that_cannot_be_looked_up_count_as_ended(settings: Settings) -> None:
    async with opened_keys(settings):
        pass
    database = await Database.open(settings.sqlalchemy_url)
    keys = KeyRing(database)
    key = await keys.create("hospital", TenantRole.OWNER)
    caller = Principal("hospital", TenantRole.OWNER, key.split("_")[1])
    watch = KeyWatch(keys, 0.05)
    with watch.watching(caller) as ended, watch.watching(caller) as same:
        assert ended is same
        await asyncio.sleep(0.2)
        assert not ended.is_set()
        path = settings.state_dir / "gateway.sqlite3"
        path.rename(path.with_suffix(".away"))
        await database.close()
        await asyncio.wait_for(ended.wait(), 2)
    await watch.close()
    await database.close()


async def test_an_honest_long_poll_outlasts_the_idle_timeout_and_an_idle_connection_does_not(
    tmp_path: Path, component: bytes
) -> None:
    timing = Timing(header_s=0.3, idle_s=0.3, enclave_stop_s=1, shutdown_s=1, event_keepalive_s=60)
    settings = settings_in(tmp_path, timing=timing).model_copy(update={"enclave_host": "127.0.0.1"})
    launcher = scripted(settings.socket_path)
    launcher.backend.scripts = dict.fromkeys(Role, silent)
    async for world in party(settings, launcher):
        job = await world.create_job(component)
        (order, *_) = await launcher.launched(1)
        assert order.role is Role.PARAMETER_SERVER
        enclave_url = world.running.enclave_url
        assert enclave_url is not None
        headers = {"Authorization": f"Bearer {order.token}"}
        poll = f"{enclave_url}/enclave/v1/mailbox?wait=1.3"
        host, _, port = enclave_url.removeprefix("http://").rpartition(":")
        idle, _ = await asyncio.open_connection(host, int(port))
        waiting = asyncio.create_task(idle.read())
        follow = asyncio.create_task(
            world.owner.session.get(f"{world.owner.url}/v1/jobs/{job}/events", headers=world.owner.headers)
        )
        async with aiohttp.ClientSession() as session, session.get(poll, headers=headers) as answer:
            # It waited four times as long as an idle connection may.
            assert answer.status == 204
            assert waiting.done()
        with contextlib.suppress(ConnectionError):
            assert await waiting == b""
        stream = await follow
        assert (await world.owner("POST", f"/v1/jobs/{job}/cancel")).status == 200
        assert str(JobState.CANCELLED).encode() in await asyncio.wait_for(stream.content.read(), 5)
