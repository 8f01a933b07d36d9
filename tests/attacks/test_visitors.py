"""Guests, auditors and strangers use up what is theirs: the owner who must stop them always has room."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.api.errors import MailboxFull, TooManyBytes, TooManyRequests, TooManyStreams
from chiron.api.jobs.mailbox import Mailbox
from chiron.api.keys import Principal, TenantRole
from chiron.api.quotas import UNCOUNTED_BYTES, Memory, Streams
from chiron.api.rates import Rates
from chiron.api.settings import Limits
from chiron.wire.apikeys import new_key
from chiron.wire.enclave_api import MailKind, MailReply, SealedMessage
from chiron.wire.networks import forwarded_for
from tests.support.caller import Caller
from tests.support.party import Party, party, settings_in
from tests.support.scripts import scripted

OWNER = Principal("hospital", TenantRole.OWNER, "1" * 16)
SEALED = {"sealed": base64.b64encode(b"sealed").decode()}
PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


def visitor(number: int = 0, role: TenantRole = TenantRole.GUEST) -> Principal:
    return Principal("hospital", role, f"{number:016x}", "ab" * 16)


async def small(directory: Path, limits: Mapping[str, float], *proxies: str) -> AsyncIterator[Party]:
    settings = settings_in(
        directory, limits=Limits.model_validate({"trainers": 4, **limits}), trusted_proxies=proxies
    )
    async for everybody in party(settings, scripted(settings.socket_path)):
        yield everybody


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Party]:
    rates = {"tenant_requests_per_s": 1, "tenant_requests_burst": 40}
    visitors = {"visitor_requests_per_s": 0.5, "visitor_requests_burst": 10}
    async for world in small(tmp_path, rates | visitors):
        yield world


async def test_attack_guests_and_auditors_flood_their_owners_rate_so_that_she_cannot_dismiss_them(
    slow: Party, component: bytes
) -> None:
    job = await slow.create_job(component)
    invited = [
        await slow.owner("POST", f"/v1/jobs/{job}/guests", json={"expires_at": int(time.time()) + 60})
        for _ in range(2)
    ]
    auditor = await slow.running.gateway.keys.create("hospital", TenantRole.AUDITOR)
    keys = [*(answer.json["key"] for answer in invited), auditor]
    callers = [Caller(slow.nobody.session, slow.nobody.url, key) for key in keys]
    statuses = [
        (await callers[number % 3]("GET", f"/v1/jobs/{job}/predictor")).status for number in range(40)
    ]
    assert statuses[:10] == [200] * 10
    assert 429 in statuses[10:12]
    for answer in invited:
        guest = answer.json["guest"]["key_id"]
        assert (await slow.owner("DELETE", f"/v1/jobs/{job}/guests/{guest}")).status == 204


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60))
def test_whatever_visitors_do_and_when_their_owner_has_her_part(asked: list[tuple[bool, float]]) -> None:
    now = 0.0
    limits = Limits(
        tenant_requests_per_s=2, tenant_requests_burst=8, visitor_requests_per_s=1, visitor_requests_burst=4
    )
    rates = Rates(limits, clock=lambda: now)
    owned = 4.0
    for number, (owners, pause) in enumerate(asked):
        owned = min(4.0, owned + pause)
        now += pause
        if not owners:
            for each in range(6):
                _take(rates, visitor(number * 6 + each))
        elif owned >= 1:
            # What is hers alone comes back as fast as she was told.
            owned -= 1
            assert _take(rates, OWNER)


def _take(rates: Rates, caller: Principal) -> bool:
    try:
        rates.take(caller)
    except TooManyRequests:
        return False
    return True


def test_attack_auditors_hold_every_event_stream_of_their_tenant() -> None:
    streams, open_ones = Streams(Limits(event_streams_per_tenant=4)), []
    for number in range(4):
        one = streams.one_of(visitor(number, TenantRole.AUDITOR))
        if number < 2:
            one.__enter__()
            open_ones.append(one)
        else:
            with pytest.raises(TooManyStreams):
                one.__enter__()
    with streams.one_of(OWNER), streams.one_of(OWNER), pytest.raises(TooManyStreams), streams.one_of(OWNER):
        pytest.fail("more than the tenant may have")
    for one in open_ones:
        one.__exit__(None, None, None)
    with streams.one_of(OWNER), streams.one_of(OWNER), streams.one_of(OWNER), streams.one_of(OWNER):
        pass


def test_attack_large_requests_at_once_fill_the_gateways_memory() -> None:
    mib = 2**20
    memory = Memory(Limits(memory_bytes=10 * mib, memory_bytes_per_tenant=6 * mib))
    with memory.one_of(visitor()) as first, memory.one_of(visitor(1)) as second:
        first.add(UNCOUNTED_BYTES + 2 * mib)
        with pytest.raises(TooManyBytes):
            second.add(UNCOUNTED_BYTES + 2 * mib)
        with memory.one_of(OWNER) as owners:
            owners.add(UNCOUNTED_BYTES + 4 * mib)
            with pytest.raises(TooManyBytes):
                owners.add(1)
            with memory.one_of(Principal("rival", TenantRole.OWNER, "2" * 16)) as others:
                others.add(UNCOUNTED_BYTES + 4 * mib)
                with pytest.raises(TooManyBytes):
                    others.add(1)
        # Small messages always find room.
        with memory.one_of(OWNER) as opening:
            opening.add(UNCOUNTED_BYTES)
    with memory.one_of(OWNER) as again:
        again.add(UNCOUNTED_BYTES + 6 * mib)


async def test_attack_guests_queries_fill_a_predictors_mailbox_so_that_no_opening_gets_in() -> None:
    mailbox = Mailbox(4)
    message = SealedMessage(sealed=b"x")

    def ask(kind: MailKind, *, owners: bool) -> "asyncio.Task[MailReply]":
        return asyncio.create_task(mailbox.ask(kind, seconds=5, message=message, owners=owners))

    guests = [ask(MailKind.QUERY, owners=False) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(MailboxFull):
        await guests[2]
    owners = [ask(MailKind.OPEN, owners=True), ask(MailKind.QUERY, owners=True)]
    await asyncio.sleep(0)
    taken = []
    for _ in range(4):
        mail = await mailbox.take(1)
        assert mail is not None
        taken.append(mail.kind)
        mailbox.answer(mail.id, MailReply())
    assert taken == [MailKind.OPEN, MailKind.QUERY, MailKind.QUERY, MailKind.QUERY]
    await asyncio.gather(*guests[:2], *owners)


async def test_attack_guests_ask_for_ever_and_fill_the_gateways_disk_with_what_it_notes(
    tmp_path: Path, component: bytes
) -> None:
    async for world in small(tmp_path, {"observed_messages": 20}):
        job = await world.create_job(component)
        assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)).status == 204
        assert (await world.end_of(job))["state"] == "succeeded"
        objects = [one for one in await _observed(world, job) if one["kind"] == "object"]
        assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
        for _ in range(30):
            assert (await world.owner("POST", f"/v1/jobs/{job}/queries", json=SEALED)).status == 200
        seen = await _observed(world, job)
        assert [one for one in seen if one["kind"] == "object"] == objects
        messages = [one["kind"] for one in seen if one["kind"] in ("query", "answer", "grant")]
        assert 20 <= len(messages) <= 22
        assert "grant" not in messages


async def _observed(world: Party, job: str) -> list[dict[str, Any]]:
    answer = await world.owner("GET", f"/v1/jobs/{job}/observations?limit=1000")
    return list(answer.json["items"])


@pytest.fixture
async def few_guesses(tmp_path: Path) -> AsyncIterator[Party]:
    limits = {"keyless_requests_per_s": 0.1, "keyless_requests_burst": 5}
    async for world in small(tmp_path, limits, "127.0.0.1/32"):
        yield world


def guess() -> dict[str, str]:
    return {"Authorization": f"Bearer {new_key().text}"}


def at(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def test_attack_a_flood_of_guessed_keys_is_slowed_down_for_its_own_address_only(
    few_guesses: Party,
) -> None:
    world = few_guesses
    assert (await world.owner("GET", "/v1/jobs", headers=at("192.0.2.1"))).status == 200
    answers = [await world.nobody("GET", "/v1/jobs", headers=guess() | at("192.0.2.1")) for _ in range(8)]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 3
    assert answers[-1].code == "too-many-requests"
    # Without a key it is no other, and whoever is in stays in.
    assert (await world.nobody("GET", "/v1/jobs", headers=at("192.0.2.1"))).status == 429
    assert (await world.nobody("GET", "/openapi.json", headers=at("192.0.2.1"))).status == 429
    assert (await world.owner("GET", "/v1/jobs", headers=at("192.0.2.1"))).status == 200
    assert (await world.stranger("GET", "/v1/jobs", headers=at("192.0.2.2"))).status == 200
    assert (await world.nobody("GET", "/healthz", headers=at("192.0.2.1"))).status == 200


async def test_attack_a_flood_names_another_source_in_each_request(few_guesses: Party) -> None:
    """Whatever it sends, the proxy appends where it came from."""
    statuses = []
    for number in range(8):
        forged = at(f"198.51.100.{number}, 192.0.2.7")
        statuses.append((await few_guesses.nobody("GET", "/v1/jobs", headers=forged)).status)
    assert statuses == [401] * 5 + [429] * 3


async def test_attack_who_is_no_trusted_proxy_names_another_source_in_each_request(tmp_path: Path) -> None:
    limits = {"keyless_requests_per_s": 0.1, "keyless_requests_burst": 5}
    async for world in small(tmp_path, limits):
        statuses = []
        for number in range(8):
            forged = guess() | at(f"198.51.100.{number}")
            statuses.append((await world.nobody("GET", "/v1/jobs", headers=forged)).status)
        assert statuses == [401] * 5 + [429] * 3


@pytest.mark.parametrize(
    ("peer", "said", "found"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 192.0.2.9"], "192.0.2.9"),
        ("10.0.0.1", ["198.51.100.1", "192.0.2.9"], "192.0.2.9"),
        ("10.0.0.1", ["198.51.100.1, 192.0.2.9, 10.0.0.2"], "192.0.2.9"),
        ("10.0.0.1", ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", ["192.0.2.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.9, "], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.9, \x1b[31m"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["::ffff:192.0.2.9"], "192.0.2.9"),
        ("2001:db8:1::5", ["2001:db8:2::7"], "2001:db8:2::7"),
        ("", ["192.0.2.9"], ""),
    ],
)
def test_an_address_is_believed_of_trusted_proxies_only(peer: str, said: list[str], found: str) -> None:
    assert forwarded_for(peer, said, PROXIES) == found


@given(st.lists(st.text(max_size=40), max_size=5))
def test_attack_a_strangers_header_changes_nothing_left_of_what_its_proxy_wrote(said: list[str]) -> None:
    assert forwarded_for("10.0.0.1", [*said, "192.0.2.9"], PROXIES) == "192.0.2.9"
    assert forwarded_for("192.0.2.1", said, PROXIES) == "192.0.2.1"


async def test_connections_through_a_trusted_proxy_are_not_bounded_as_of_one_address(tmp_path: Path) -> None:
    world: Any
    limits = {"connections_per_address": 2, "connections": 20}
    async for world in small(tmp_path, limits, "127.0.0.0/8"):
        url = world.owner.url.removeprefix("http://")
        host, _, port = url.rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(6)]
        assert (await world.owner("GET", "/v1/jobs")).status == 200
        assert not any(reader.at_eof() for reader, _ in idle)
        for _, writer in idle:
            writer.close()
