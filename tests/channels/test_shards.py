"""Shards: admitted by the parameter server for their own index only, and open to trainers of the job only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.runtime.channels.enrolment import EnrolmentResponse, ShardAdmission
from chiron.runtime.channels.job_ca import SERVER_NAME, JobCa, shard_name
from chiron.runtime.channels.membership import Membership, join
from chiron.runtime.channels.peers import anonymous_session, request_enrolment
from chiron.runtime.channels.shards import ShardLink, ShardMembership, TrainerCertificates, connect_to_shards
from chiron.runtime.channels.tls import client_context, named_connector, named_url, renew, server_context
from chiron.runtime.errors import PeerRefused
from chiron.runtime.roles.served_exchange import listening
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire import paths
from chiron.wire.attestation import Claims, Role
from chiron.wire.enclave_api import Ready
from chiron.wire.p256 import generate_key, public_key_der
from tests.support.server_door import GRANT_NAME, SHARDS, Door, open_door
from tests.support.specs import JOB
from tests.support.tee import OTHER_IMAGE, QuotingServices


@dataclass
class Shard:
    """A shard that was admitted, and serves who it takes its callers for."""

    membership: ShardMembership
    key: ec.EllipticCurvePrivateKey
    address: str


@asynccontextmanager
async def serving(door: Door, index: int) -> AsyncIterator[Shard]:
    """Shard `index`, as the role runs it but for what it serves."""
    launch = door.launch(role=Role.SHARD, index=index)
    key = generate_key()

    async def find() -> Ready:
        return door.ready

    async with ShardMembership(launch, door.platform, key, find) as membership:
        await membership.join()
        context = server_context(key, membership.certificate, membership.authority, only_members=True)
        trainers = TrainerCertificates(2)

        async def who(request: web.Request) -> web.Response:
            return web.Response(text=str(trainers.identify(request)))

        async with listening([web.get("/who", who)], launch, context) as address:
            yield Shard(membership, key, address)


async def linked(membership: Membership, addresses: dict[int, str]) -> list[ShardLink]:
    async def find(index: int) -> Ready:
        return Ready(address=addresses[index])

    return await connect_to_shards(membership, find)


async def who(link: ShardLink) -> str:
    async with link.session.get(f"{link.url}/who", timeout=aiohttp.ClientTimeout(10)) as response:
        return await response.text()


async def test_trainers_reach_each_shard_and_are_told_apart(door: Door) -> None:
    async with (
        serving(door, 1) as one,
        serving(door, 2) as two,
        join(door.ready, door.launch(index=0), door.platform) as first,
        join(door.ready, door.launch(index=1), door.platform) as second,
    ):
        addresses = {1: one.address, 2: two.address}
        assert [await who(link) for link in await linked(first, addresses)] == ["0"] * (SHARDS - 1)
        assert [await who(link) for link in await linked(second, addresses)] == ["1"] * (SHARDS - 1)


async def test_a_shard_is_told_what_seals_its_checkpoint_and_no_other_secret(door: Door) -> None:
    """A share of its own, sealed to the key in its evidence; and the ticket is not for it."""
    public = {"certificate", "spec_digest", "grant_name", "machines", "attestation"}
    assert set(ShardAdmission.model_fields) == public | {"sealed_share"}
    async with serving(door, 1) as one, serving(door, 2) as two:
        shares = {bytes(32), one.membership.share, two.membership.share}
        assert len(shares) == 3
    async with serving(door, 1) as shard:
        assert shard.membership.grant_name == GRANT_NAME
        context = client_context(door.ca.certificate, shard.key, shard.membership.certificate)
        connector = named_connector(context, door.address)
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"{door.url}/v1/ticket")


async def test_a_trainer_does_not_take_one_shard_for_another(door: Door) -> None:
    async with (
        serving(door, 1) as one,
        serving(door, 2) as two,
        join(door.ready, door.launch(), door.platform) as membership,
    ):
        for link in await linked(membership, {1: two.address, 2: one.address}):
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await who(link)


async def test_a_shard_and_the_parameter_server_do_not_pass_for_each_other(
    door: Door,
) -> None:
    async with (
        serving(door, 1) as one,
        serving(door, 2) as two,
        join(door.ready, door.launch(), door.platform) as membership,
    ):
        swapped, _ = await linked(membership, {1: door.address, 2: two.address})
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await who(swapped)
        session, url = await membership.open(membership.context, SERVER_NAME, one.address)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{url}/v1/ticket")


@pytest.mark.parametrize("stranger", ["nobody", "another job's trainer", "a shard"])
async def test_a_shard_lets_in_nobody_but_trainers_of_its_job(door: Door, stranger: str) -> None:
    async with serving(door, 1) as one, serving(door, 2) as two:
        key, certificate = generate_key(), None
        if stranger == "another job's trainer":
            certificate = JobCa(JOB, datetime.now(UTC)).issue_client("trainer-0", key.public_key())
        elif stranger == "a shard":
            key, certificate = two.key, two.membership.certificate
        context = client_context(door.ca.certificate, key, certificate)
        connector = named_connector(context, one.address)
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(named_url(shard_name(1), one.address) + "/who")


async def test_a_trainer_that_was_replaced_cannot_displace_its_successor(door: Door) -> None:
    async with (
        serving(door, 1) as one,
        join(door.ready, door.launch(), door.platform) as former,
        join(door.ready, door.launch(), door.platform) as successor,
    ):
        addresses = {1: one.address, 2: one.address}
        (old, _), (new, _) = await linked(former, addresses), await linked(successor, addresses)
        assert await who(old) == "0"
        assert await who(new) == "0"
        assert "client-certificate-replaced" in await who(old)
        assert await who(new) == "0"


@dataclass
class Applicant:
    """A would-be shard, honest unless a test says otherwise."""

    door: Door
    quoting: QuotingServices

    async def refusal(self, *, role: Role, path: str, index: int, of_another_image: bool = False) -> None:
        """It is not admitted."""
        launch = self.door.launch(role=role, index=index)
        platform = self.quoting.platform(OTHER_IMAGE) if of_another_image else self.door.platform
        public_key = public_key_der(generate_key().public_key())
        hpke_key = PrivateKey.generate().public_bytes if role is Role.SHARD else None
        answer = ShardAdmission if path == paths.ENROL_SHARD else EnrolmentResponse
        async with anonymous_session(self.door.ca.certificate, self.door.address) as session:
            with pytest.raises(PeerRefused):
                await request_enrolment(session, path, answer, launch, platform, public_key, hpke_key)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 0},
        {"index": SHARDS},
        {"role": Role.TRAINER},
        {"of_another_image": True},
        {"path": paths.ENROL},
    ],
    ids=["the first's index", "no index", "a trainer", "another measurement", "as a trainer"],
)
async def test_the_parameter_server_admits_no_other_as_a_shard(
    door: Door, quoting: QuotingServices, changes: dict[str, object]
) -> None:
    usual: dict[str, object] = {"role": Role.SHARD, "path": paths.ENROL_SHARD, "index": 1}
    await Applicant(door, quoting).refusal(**usual | changes)  # type: ignore[arg-type]


async def test_a_shard_ends_with_the_job(door: Door) -> None:
    async with serving(door, 1) as one:
        waiting = asyncio.create_task(one.membership.ended())
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        door.ended.set()
        assert await waiting


async def test_a_shard_is_admitted_anew_by_a_successor_and_keeps_to_its_grant(
    quoting: QuotingServices,
) -> None:
    async with open_door(quoting) as door:
        places = [door.ready]

        async def find() -> Ready:
            return places[-1]

        key = generate_key()
        launch = door.launch(role=Role.SHARD, index=1)
        async with ShardMembership(launch, door.platform, key, find) as membership:
            await membership.join()
            first = membership.certificate
            context = server_context(key, first, membership.authority, only_members=True)
            async with open_door(quoting) as successor:
                places.append(successor.ready)
                await membership.join()
                assert membership.certificate.issuer == first.issuer
                assert membership.certificate.signature != first.signature
                renew(context, key, membership.certificate, membership.authority)
                await expect_served(context, successor)
            async with open_door(quoting, grant_name=b"\x0a" * 32) as usurper:
                places.append(usurper.ready)
                with pytest.raises(PeerRefused) as refused:
                    await membership.join()
                assert refused.value.code == "peer-ticket-differs"


async def expect_served(context: object, successor: Door) -> None:
    """A trainer of the successor is let in through a door that was opened under its predecessor."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    launch = successor.launch(role=Role.SHARD, index=1)
    async with (
        listening([web.get("/who", hello)], launch, context) as address,  # type: ignore[arg-type]
        join(successor.ready, successor.launch(), successor.platform) as membership,
    ):
        link, _ = await linked(membership, {1: address, 2: address})
        assert await who(link) == "hello"


async def test_a_shard_refuses_another_spec_than_the_owners(door: Door) -> None:
    """The host may launch it with weights or terms of its own choice."""
    launch = door.launch(role=Role.SHARD, index=1)
    other = launch.model_copy(update={"spec": launch.spec.model_copy(update={"seed": 2})})

    async def find() -> Ready:
        return door.ready

    key = generate_key()
    async with ShardMembership(other, door.platform, key, find) as membership:
        with pytest.raises(PeerRefused) as refused:
            await membership.join()
    assert refused.value.code == "peer-spec-differs"


def test_owners_are_never_shown_a_shards_evidence_as_the_parameter_servers(door: Door) -> None:
    """Its claims bind no key that a grant could be sealed to."""
    with pytest.raises(ValueError, match="must bind exactly"):
        Claims(role=Role.SHARD, job=JOB, hpke_public_key=bytes(1216), nonce=bytes(32))
