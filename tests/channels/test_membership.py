"""A trainer's place in its job while the parameter server is away, comes back, or has a successor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from chiron.runtime.channels.membership import Membership, join
from chiron.runtime.errors import PeerRefused
from chiron.wire.enclave_api import Ready
from chiron.wire.jobs import JobState
from tests.support.server_door import Door, open_door
from tests.support.tee import QuotingServices

NOWHERE = "127.0.0.1:9"


class Host:
    """Says where the parameter server is: the next answer each time, the last one for ever."""

    def __init__(self, *answers: Ready) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self) -> Ready:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def moved(ready: Ready, address: str = NOWHERE) -> Ready:
    return ready.model_copy(update={"address": address})


async def test_a_server_that_went_before_we_came_is_found_where_it_is_by_then(door: Door) -> None:
    find = Host(moved(door.ready), door.ready)
    async with asyncio.timeout(60), join(moved(door.ready), door.launch(), door.platform, find) as membership:
        assert membership.url == door.url
    assert find.asked == 2


async def test_where_nobody_finds_it_again_a_server_that_is_away_is_an_error(door: Door) -> None:
    with pytest.raises(aiohttp.ClientConnectorError):
        async with join(moved(door.ready), door.launch(), door.platform):
            pytest.fail("it joined")


async def test_a_successor_with_the_same_grant_is_joined(door: Door, quoting: QuotingServices) -> None:
    async with open_door(quoting) as successor:
        find = Host(door.ready, successor.ready)
        async with join(door.ready, door.launch(), door.platform, find) as membership:
            first = membership.session
            assert await membership.reconnect() == (first, door.url)
            session, url = await membership.reconnect()
            assert (session is first, url) == (False, successor.url)
            assert (membership.session, membership.url) == (session, url)


@asynccontextmanager
async def told(membership: Membership, *statuses: int) -> AsyncIterator[list[bytes]]:
    """Put a server in the place of the parameter server; 0: it hangs up. What it is told."""
    bodies: list[bytes] = []
    answers = iter(statuses)

    async def state(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        status = next(answers)
        if not status and request.transport is not None:
            request.transport.close()
        return web.Response(status=status or 204)

    app = web.Application()
    app.add_routes([web.post("/v1/state", state)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        membership.session, membership.url = session, f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield bodies
        finally:
            await runner.cleanup()


async def test_progress_is_told_again_after_a_broken_connection_and_the_server_looked_for(door: Door) -> None:
    find = Host(door.ready)
    async with (
        join(door.ready, door.launch(), door.platform, find) as membership,
        told(membership, 0, 0, 204) as bodies,
    ):
        await membership.advance(JobState.TRAINING)
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert find.asked == 2


async def test_progress_that_is_refused_is_not_told_again(door: Door) -> None:
    find = Host(door.ready)
    async with (
        join(door.ready, door.launch(), door.platform, find) as membership,
        told(membership, 403, 204) as bodies,
    ):
        with pytest.raises(PeerRefused) as refused:
            await membership.advance(JobState.TRAINING)
    assert (refused.value.code, len(bodies), find.asked) == ("state-refused", 1, 0)
