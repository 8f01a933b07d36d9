"""A connection that is opened early: used once, for its own address only; if it fails, nobody notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from chiron.client import connecting
from chiron.client.connecting import Connecting
from chiron.client.errors import GatewayUnreachable
from chiron.client.gateway_session import GatewaySession


@dataclass
class Gateway:
    """A server that answers everything."""

    url: str = ""
    peers: list[object] = field(default_factory=list)
    """The other end of each connection, as they came."""
    asked: list[object] = field(default_factory=list)
    """The other end of each request."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.peers.append(peer := writer.get_extra_info("peername"))
        self.arrived.set()
        while await reader.read(1 << 16):
            self.asked.append(peer)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        self.ended.set()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@asynccontextmanager
async def session(gateway: Gateway, to: str) -> AsyncIterator[GatewaySession]:
    """A session with `gateway`, made with an early connection to `to` that had the time to be opened."""
    with Connecting(to) as early:
        if to == gateway.url:
            await gateway.arrived.wait()
        await asyncio.sleep(0.1)
        async with GatewaySession(gateway.url, "key", early.connector()) as made:
            yield made


async def test_the_first_request_goes_over_the_early_connection(gateway: Gateway) -> None:
    async with session(gateway, gateway.url) as made:
        assert [await made.fetch("/a"), await made.fetch("/b")] == [b"ok", b"ok"]
    assert len(gateway.peers) == 1
    assert gateway.asked == gateway.peers * 2


async def test_a_connection_to_elsewhere_is_not_used(gateway: Gateway) -> None:
    elsewhere = Gateway()
    server = await asyncio.start_server(elsewhere.answer, "127.0.0.1", 0)
    async with server, session(gateway, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as made:
        assert await made.fetch("/") == b"ok"
    assert (len(elsewhere.peers), elsewhere.asked, len(gateway.asked)) == (1, [], 1)


async def test_an_old_connection_is_not_used(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "FRESH_S", 0.0)
    async with session(gateway, gateway.url) as made:
        assert await made.fetch("/") == b"ok"
    assert gateway.asked == gateway.peers[1:]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "http://name.invalid", "http://a:99999"])
async def test_where_nobody_answers_the_request_says_so_and_not_the_early_connection(url: str) -> None:
    with Connecting(url) as early:
        async with GatewaySession("http://127.0.0.1:1", "key", early.connector()) as made:
            with pytest.raises(GatewayUnreachable):
                await made.post("/")


async def test_a_connection_that_nobody_wanted_is_closed(gateway: Gateway) -> None:
    with Connecting(gateway.url):
        await gateway.arrived.wait()
    await gateway.ended.wait()
    assert gateway.asked == []
