"""Enclaves' doors, at which strangers knock: they are bounded in number, in bytes and in time.

Each attack needs no key and no certificate. Whoever has one is let in and served all the while.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from chiron.api.launchers import door_relay
from chiron.runtime.attestation.platform import attest
from chiron.runtime.channels.enrolment import MAX_ENROLMENT_BYTES, Challenge, EnrolmentRequest
from chiron.runtime.channels.job_ca import JobCa
from chiron.runtime.channels.membership import join
from chiron.runtime.channels.nonces import Nonces
from chiron.runtime.channels.tls import client_context, named_connector, named_url, server_context
from chiron.runtime.errors import EnrolmentRefused
from chiron.wire.attestation import Claims, Role
from chiron.wire.connections import DoorLimits
from chiron.wire.doors import BodyTooSlow, open_door, read_stranger
from chiron.wire.encoding import sha256_hex
from chiron.wire.errors import LimitExceeded
from chiron.wire.grants import PredictionPolicy
from chiron.wire.networks import network_of
from chiron.wire.p256 import generate_key, public_key_der
from tests.support import predictor_door, server_door
from tests.support.specs import JOB
from tests.support.tee import QuotingServices

FLOOD = 5000
HALF_A_REQUEST = b"GET / HTTP/1.1\r\nHost: d"


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuotingServices]:
    services = QuotingServices(tmp_path_factory.mktemp("q"))
    yield services
    services.close()


@pytest.fixture
async def server(quoting: QuotingServices) -> AsyncIterator[server_door.Door]:
    async with server_door.open_door(quoting) as opened:
        yield opened


@asynccontextmanager
async def small_door(**limits: float) -> AsyncIterator[tuple[str, int]]:
    """A door with few places; at /slow it answers after a second, to /body it reads 1,000 bytes."""

    async def quick(_: web.Request) -> web.Response:
        return web.Response(text="here")

    async def slow(request: web.Request) -> web.Response:
        await read_stranger(request, 1000)
        await asyncio.sleep(1)
        return web.Response(text="here")

    async def body(request: web.Request) -> web.Response:
        try:
            await read_stranger(request, 1000)
        except (LimitExceeded, BodyTooSlow) as error:
            return web.Response(status=413, text=error.code)
        return web.Response(text="read")

    app = web.Application()
    app.add_routes([web.get("/", quick), web.get("/slow", slow), web.post("/body", body)])
    async with open_door(app, "127.0.0.1", 0, limits=DoorLimits(**limits), shutdown_s=0.1) as door:  # type: ignore[arg-type]
        yield door.address


class Stranger:
    """A connection of somebody unknown, from an address of their own choice."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, address: tuple[str, int], source: str = "127.0.0.1", said: bytes = b"") -> "Stranger":
        reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
        writer.write(said)
        return cls(reader, writer)

    async def closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read()
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    async def get(self, path: str) -> bytes:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
        return await self.reader.read()


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


# A flood of bytes.


async def test_attack_400_mib_at_the_server_door_are_not_read(server: server_door.Door) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 2**20
            yield bytes(2**20)

    connector = named_connector(client_context(server.ca.certificate), server.address)
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            async with session.post(f"{server.url}/v1/enrol", data=endless()) as response:
                assert response.status == 403
                assert (await response.json())["code"] == "enrolment-malformed"
        except aiohttp.ClientError:
            pass  # It hung up on us while we were still sending.
    assert sent < 400 * 2**20
    async with join(server.ready, server.launch(), server.platform):
        pass


async def test_attack_body_longer_than_its_route_reads_is_cut_off() -> None:
    async with small_door() as address, aiohttp.ClientSession() as session:
        url = f"http://{address[0]}:{address[1]}/body"
        async with session.post(url, data=bytes(1001)) as response:
            assert (response.status, await response.text()) == (413, "limit-exceeded")
        async with session.post(url, data=bytes(1000)) as response:
            assert response.status == 200


async def test_attack_body_that_trickles_is_given_up() -> None:
    async with small_door(body_s=0.2) as address:
        trickle = b"POST /body HTTP/1.1\r\nHost: d\r\nContent-Length: 900\r\n\r\nx"
        stranger = await Stranger.at(address, said=trickle)
        assert b"request-timeout" in await stranger.reader.readuntil(b"request-timeout")


async def test_attack_many_long_bodies_at_once_hold_a_bounded_memory() -> None:
    async with small_door(body_bytes=2500) as address:
        half = b"POST /body HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\n" + b"x" * 900
        strangers = []
        for _ in range(3):
            strangers.append(await Stranger.at(address, said=half))
            await asyncio.sleep(0.05)
        assert await strangers[0].closed_within(2)
        strangers[2].writer.write(b"x" * 100)
        assert b"200" in await strangers[2].reader.readline()


# A flood of connections.


async def test_attack_idle_connections_are_closed_and_keep_nobody_out() -> None:
    async with small_door(connections=8, connections_per_address=4, header_s=0.4) as address:
        idle = [await Stranger.at(address, f"127.0.0.{2 + k % 4}") for k in range(40)]
        assert b"here" in await (await Stranger.at(address)).get("/")
        assert all(await asyncio.gather(*(each.closed_within(2) for each in idle)))


async def test_attack_header_sent_drop_by_drop_has_one_deadline() -> None:
    async with small_door(header_s=0.4) as address:
        loris = await Stranger.at(address, said=HALF_A_REQUEST)
        for _ in range(8):
            await asyncio.sleep(0.1)
            loris.writer.write(b"x")
        assert await loris.closed_within(1)


async def test_attack_handshake_sent_drop_by_drop_has_one_deadline_and_keeps_nobody_out() -> None:
    key, ca = generate_key(), JobCa(JOB, datetime.now(UTC))
    context = server_context(key, ca.issue_server(key.public_key(), "d"), ca.certificate)
    limits = DoorLimits(connections=6, connections_per_address=3, handshake_s=0.5)

    async def here(_: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.add_routes([web.get("/", here)])
    hello = bytes.fromhex("16030102000100") + bytes(500)
    async with open_door(app, "127.0.0.1", 0, limits=limits, context=context, shutdown_s=0.1) as door:
        slow = [await Stranger.at(door.address, f"127.0.0.{2 + k % 2}", hello[:1]) for k in range(8)]
        for at in range(1, 9):
            await asyncio.sleep(0.1)
            for stranger in slow:
                stranger.writer.write(hello[at : at + 1])
        at_door = f"127.0.0.1:{door.address[1]}"
        connector = named_connector(client_context(ca.certificate), at_door)
        async with (
            aiohttp.ClientSession(named_url("d", at_door), connector=connector) as session,
            session.get("/") as answer,
        ):
            assert await answer.text() == "here"
        assert all(await asyncio.gather(*(each.closed_within(1) for each in slow)))


async def test_attack_connection_left_idle_after_a_request_is_closed() -> None:
    async with small_door(idle_s=0.3, header_s=0.4) as address:
        stranger = await Stranger.at(address, said=b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"200" in await stranger.reader.readline()
        assert await stranger.closed_within(2)


async def test_attack_one_address_takes_its_own_places_only() -> None:
    async with small_door(connections=8, connections_per_address=4) as address:
        other = await Stranger.at(address, "127.0.0.9")
        flood = [await Stranger.at(address, "127.0.0.2", HALF_A_REQUEST) for _ in range(20)]
        await asyncio.sleep(0.1)
        assert not await other.closed_within(0.1)
        assert b"here" in await other.get("/")
        closed = await asyncio.gather(*(each.closed_within(0.1) for each in flood))
        assert sum(closed) == 16
        assert not any(closed[-4:])


async def test_attack_flood_ends_no_request_that_is_being_answered() -> None:
    async with small_door(connections=4, connections_per_address=2) as address:
        asking = asyncio.create_task((await Stranger.at(address, "127.0.0.9")).get("/slow"))
        await asyncio.sleep(0.1)
        for k in range(40):
            await Stranger.at(address, f"127.0.0.{2 + k % 8}")
        assert b"here" in await asking


def test_attack_one_ipv6_network_is_one_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("fe80::1%eth0") == network_of("fe80::2%eth1")


async def test_attack_idle_connections_at_the_parameter_server_lock_no_trainer_out(
    server: server_door.Door,
) -> None:
    async with (
        join(server.ready, server.launch(index=1), server.platform) as member,
        AsyncExitStack() as strangers,
    ):
        for k in range(300):
            stranger = await Stranger.at(host_and_port(server.address), f"127.0.0.{2 + k % 3}")
            strangers.callback(stranger.writer.close)
        async with join(server.ready, server.launch(index=0), server.platform):
            pass
        async with member.session.get(f"{member.url}/who") as response:
            assert await response.text() == "1"


async def test_attack_idle_connections_at_a_predictors_door_lock_its_owner_out_of_nothing(
    quoting: QuotingServices, tmp_path: Path
) -> None:
    async with predictor_door.predictor_door(quoting, tmp_path, PredictionPolicy()) as door:
        address = host_and_port(door.address)
        idle = [await Stranger.at(address, f"127.0.0.{2 + k % 3}") for k in range(300)]
        async with (
            door.client() as client,
            client.direct_predictor(predictor_door.SPEC.job, door.address) as session,
        ):
            assert len((await session.predict(np.ones((1, 2, 3), np.float32))).scores) == 1
        for stranger in idle:
            stranger.writer.close()


async def test_attack_query_longer_than_the_jobs_is_not_read_by_its_predictor(
    quoting: QuotingServices, tmp_path: Path
) -> None:
    async with predictor_door.predictor_door(quoting, tmp_path, PredictionPolicy()) as door:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            url = f"https://{door.address}/v1/jobs/{predictor_door.SPEC.job}/queries"
            async with session.post(url, data=b" " * 300_000) as response:
                assert (response.status, (await response.json())["code"]) == (413, "limit-exceeded")


async def test_attack_idle_connections_at_the_relay_to_a_predictor_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_relay, "SILENT_S", 1.0)
    async with small_door() as inner, AsyncExitStack() as stack:
        relay = door_relay.Relay(inner[1])
        server = await asyncio.start_server(relay.carry, "127.0.0.1", 0)
        await stack.enter_async_context(server)
        address = server.sockets[0].getsockname()
        idle = [await Stranger.at(address, f"127.0.0.{2 + k % 3}") for k in range(120)]
        assert b"here" in await (await Stranger.at(address)).get("/")
        assert all(await asyncio.gather(*(each.closed_within(3) for each in idle)))


# A flood of challenges.


async def test_attack_flood_of_challenges_evicts_no_honest_nonce(server: server_door.Door) -> None:
    key = public_key_der(generate_key().public_key())
    honest = server.registrar.challenge().nonce
    for _ in range(FLOOD):
        server.registrar.challenge()
    claims = Claims(role=Role.TRAINER, job=JOB, tls_public_key_sha256=sha256_hex(key), nonce=honest)
    evidence = await asyncio.to_thread(attest, server.platform, claims)
    request = EnrolmentRequest(index=0, evidence=evidence, public_key=key)
    assert server.registrar.enrol(request).certificate
    with pytest.raises(EnrolmentRefused) as replayed:
        server.registrar.enrol(request)
    assert replayed.value.code == "enrolment-nonce"


def test_attack_nonces_that_were_forged_altered_or_kept_too_long_are_refused() -> None:
    time = 1000.0
    nonces = Nonces(lifetime_s=60, clock=lambda: time)
    honest = nonces.issue()
    nonces.check(honest)
    altered = [bytes([*honest[:k], honest[k] ^ 1, *honest[k + 1 :]]) for k in range(len(honest))]
    for forged in (bytes(32), Nonces().issue(), honest[:-1], *altered):
        with pytest.raises(EnrolmentRefused):
            nonces.check(forged)
    time += 61
    with pytest.raises(EnrolmentRefused):
        nonces.check(honest)


def test_attack_clock_set_back_makes_no_used_nonce_good_again() -> None:
    time = 1000.0
    nonces = Nonces(lifetime_s=60, clock=lambda: time)
    used = nonces.issue()
    nonces.check(used)
    nonces.use_up(used)
    time += 61
    nonces.use_up(nonces.issue())  # Forgets what is too old.
    time -= 61
    with pytest.raises(EnrolmentRefused):
        nonces.check(used)


def test_challenge_is_what_an_enrolment_fits() -> None:
    assert len(Challenge(nonce=Nonces().issue()).model_dump_json()) < MAX_ENROLMENT_BYTES
