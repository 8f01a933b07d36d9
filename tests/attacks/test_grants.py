"""Attacks on a job's grant: the host starts a parameter server again, as often and from whatever it likes.

Nothing that it keeps of a job, of whatever moment, is to open without the owner; and she is not to be made to
open what she would not.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import GrantImpossible, Job, JobState
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.granting import HourlyLimit, make_grant, seal_grant
from chiron.client.history import Deed, Entry, History
from chiron.client.keyholder import Keyholder
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.channels.enrolment import shard_share
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import join
from chiron.runtime.errors import SealingError
from chiron.runtime.roles.grant import grant_name
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import Grant, Restarts, SignedGrant
from chiron.wire.labels import CHECKPOINT, GRANT, LEADER_CHECKPOINT, TRAINER_CHECKPOINT
from chiron.wire.launch import GatewayChannel
from chiron.wire.machines import MachineKey
from tests.support.builders import orderly
from tests.support.deployment import create_and_grant, keyholding, publish
from tests.support.lone_server import ScriptedGateway, started
from tests.support.mortal import SERVER, MortalWorld, mortal_world
from tests.support.roles import Death
from tests.support.specs import job_spec, launch_spec
from tests.support.tee import MEASUREMENT, OTHER_IMAGE, DirectPlatform, open_tee, policy_for

SPEC = job_spec(exchange={"shards": 2})
QUIET_S = 0.4
"""How long a parameter server is watched that must do nothing."""
STORED = "checkpoint-parameter-server"


@dataclass
class Owner:
    """One owner, who gives `SPEC`'s job a grant."""

    tee: SoftwareTee
    restarts: Restarts = Restarts.OWNER
    share: bytes = b"\x5a" * 32
    dataset_key: bytes = b"\x07" * 32

    def __post_init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.reports = hpke.PrivateKey.generate()

    def grant(self, **changes: object) -> Grant:
        """Her grant."""
        usual = {
            "job": SPEC.job,
            "dataset_key": self.dataset_key,
            "dataset_digest": SPEC.dataset.digest(),
            "spec_digest": SPEC.digest(),
            "attestation": policy_for(self.tee),
            "owner_public_key": self.reports.public_bytes,
            "owner_signing_key": self.key.public_key().public_bytes_raw(),
            "issued_at": int(datetime.now(UTC).timestamp()),
            "expires_at": 2**36,
            "share": self.share,
            "restarts": self.restarts,
        }
        return Grant.model_validate(usual | changes)

    async def sealed(self, server: ScriptedGateway, **changes: object) -> bytes:
        """What she sends to this start, having verified it."""
        evidence, nonce = await server.evidence()
        expected = Expected(Role.PARAMETER_SERVER, SPEC.job, nonce)
        verified = verify(evidence, policy_for(self.tee), expected, datetime.now(UTC))
        return seal_grant(verified, self.grant(**changes), self.key)


@pytest.fixture(scope="module")
def tee(tmp_path_factory: pytest.TempPathFactory) -> SoftwareTee:
    """The processor, whose keys the host has by now."""
    return open_tee(tmp_path_factory.mktemp("tee"))


async def begun(owner: Owner, tee: SoftwareTee, machines: Sequence[MachineKey] = ()) -> dict[str, bytes]:
    """What the host keeps of a job whose parameter server was granted, and killed then.

    The grant names `machines`, and the operator lets it.
    """
    allowed = tuple(sha256_hex(key.public_key) for key in machines)
    async with started(SPEC, DirectPlatform(tee), machines=allowed) as server:
        assert await server.grant(await owner.sealed(server, machines=machines)) is None
        await asyncio.wait_for(asyncio.shield(server.ready), 10)
    return server.objects


async def serves_nobody(server: ScriptedGateway) -> None:
    """It waits for its owner: it has no door, and says so."""
    done, _ = await asyncio.wait({server.ready}, timeout=QUIET_S)
    assert not done, "it opened its door without its owner"
    assert [(told.state, told.again) for told in server.told] == [(JobState.AWAITING_GRANT, True)]


async def test_what_a_killed_parameter_server_left_opens_to_its_owner_only(tee: SoftwareTee) -> None:
    owner, other = Owner(tee), Owner(tee)
    kept = await begun(owner, tee)
    async with started(SPEC, DirectPlatform(tee), kept) as server:
        await serves_nobody(server)
        assert await server.grant(await other.sealed(server)) == "checkpoint-invalid"
        knows_the_key = Owner(tee, share=bytes(32))
        assert await server.grant(await knows_the_key.sealed(server)) == "checkpoint-invalid"
        assert await server.grant(await owner.sealed(server, prediction={"top_k": 1})) == "checkpoint-invalid"
        assert await server.grant(await owner.sealed(server, restarts="alone")) == "checkpoint-invalid"
        assert not server.ready.done()
        assert await server.grant(await owner.sealed(server)) is None
        await asyncio.wait_for(asyncio.shield(server.ready), 10)


async def test_a_grant_that_was_sent_once_opens_no_other_start(tee: SoftwareTee) -> None:
    owner = Owner(tee)
    async with started(SPEC, DirectPlatform(tee)) as server:
        sent = await owner.sealed(server)
        assert await server.grant(sent) is None
        kept = server.objects
    async with started(SPEC, DirectPlatform(tee), kept) as server:
        assert await server.grant(sent) == "grant-unreadable"
        await serves_nobody(server)


@pytest.mark.parametrize("by", ["nobody", "a stranger", "the owner, for another start"])
async def test_a_grant_that_its_owner_did_not_sign_for_this_start_is_refused(
    tee: SoftwareTee, by: str
) -> None:
    owner, stranger = Owner(tee), Ed25519PrivateKey.generate()
    async with started(SPEC, DirectPlatform(tee)) as server:
        evidence, _ = await server.evidence()
        key = evidence.claims.hpke_public_key
        assert key is not None
        grant = owner.grant()
        signed = {
            "nobody": bytes(64),
            "a stranger": stranger.sign(grant.signed_bytes(sha256_hex(key))),
            "the owner, for another start": owner.key.sign(grant.signed_bytes(sha256_hex(b"another"))),
        }
        plaintext = SignedGrant(grant=grant, signature=signed[by]).model_dump_json().encode()
        sealed = hpke.seal(key, plaintext, label=GRANT, context=bytes.fromhex(SPEC.job))
        assert await server.grant(sealed) == "grant-unsigned"
        assert not server.objects


async def test_an_expired_grant_is_refused_at_first_and_again(tee: SoftwareTee) -> None:
    owner = Owner(tee)
    now = int(datetime.now(UTC).timestamp())
    async with started(SPEC, DirectPlatform(tee)) as server:
        assert await server.grant(await owner.sealed(server, expires_at=now)) == "grant-expired"
    kept = await begun(owner, tee)
    async with started(SPEC, DirectPlatform(tee), kept) as server:
        assert await server.grant(await owner.sealed(server, expires_at=now)) == "grant-expired"
        assert not server.ready.done()


async def test_alone_an_expired_grant_is_not_gone_on_with(tee: SoftwareTee) -> None:
    owner = Owner(tee, Restarts.ALONE)
    soon = datetime.now(UTC).timestamp() + 1.5
    async with started(SPEC, DirectPlatform(tee)) as server:
        assert await server.grant(await owner.sealed(server, expires_at=int(soon))) is None
        kept = server.objects
    await asyncio.sleep(max(0.0, soon - datetime.now(UTC).timestamp()))
    async with started(SPEC, DirectPlatform(tee), kept) as server:
        done, _ = await asyncio.wait({server.ready}, timeout=QUIET_S)
        assert not done
        assert [told.failure for told in server.told] == ["grant-refused"]


@dataclass
class Recorded:
    """A world whose host keeps every version of everything that was ever stored."""

    world: MortalWorld
    versions: dict[str, list[bytes]]

    @property
    def tee(self) -> SoftwareTee:
        """Its processor."""
        return self.world.launcher.backend.tee

    async def begin(self, **asked: Any) -> Job:
        """A job that has its grant."""
        builder = await publish(self.world.operator, orderly())
        request = {"trainers": 1, "exchanges": 4} | asked
        return await create_and_grant(self.world.owner, builder.sha256, self.world.dataset, **request)

    async def ended(self, job: Job) -> Job:
        """The job at its end."""
        seen = [now async for now in self.world.owner.watch(job)][-1]
        await self.world.gateway.supervisor.settled(job.spec.job)
        return seen

    async def waits(self, job: Job) -> Job:
        """The job, once it waits for its owner."""
        async with asyncio.timeout(20), aclosing(self.world.owner.watch(job)) as states:
            async for now in states:
                assert now.state is not JobState.FAILED, self.world.codes
                if now.awaiting_owner:
                    return now
        raise AssertionError("it never waited")


@pytest.fixture
async def recorded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorded]:
    versions: dict[str, list[bytes]] = {}
    store = GatewayClient.put_object

    async def kept(gateway: GatewayClient, name: str, sealed: bytes) -> None:
        versions.setdefault(name, []).append(bytes(sealed))
        await store(gateway, name, sealed)

    monkeypatch.setattr(GatewayClient, "put_object", kept)
    with TemporaryDirectory(prefix="chiron-") as name:
        async with mortal_world(Path(name), keyholder=False) as world:
            yield Recorded(world, versions)


@asynccontextmanager
async def restored(recorded: Recorded, job: Job, sealed: bytes) -> AsyncIterator[ScriptedGateway]:
    """The job's parameter server, started again by the host over one version of its checkpoint."""
    async with started(job.spec, DirectPlatform(recorded.tee), {STORED: sealed}) as server:
        yield server


async def test_after_its_end_no_version_of_a_jobs_checkpoint_enrols_anybody(recorded: Recorded) -> None:
    """The proof of concept poc_after_end, from every moment of the job."""
    job = await recorded.begin()
    assert (await recorded.ended(job)).state is JobState.SUCCEEDED
    versions = recorded.versions[STORED]
    assert len(versions) == 7
    for sealed in (versions[0], versions[3], versions[-1]):
        async with restored(recorded, job, sealed) as server:
            await serves_nobody(server)
            evidence, nonce = await server.evidence()
    # The host has it verified, and asks the owner to open it.
    expected = Expected(Role.PARAMETER_SERVER, job.spec.job, nonce)
    verified = verify(evidence, policy_for(recorded.tee), expected, datetime.now(UTC))
    with pytest.raises(GrantImpossible) as refused:
        await recorded.world.owner.send_grant_again(verified)
    assert refused.value.code == "job-ended"


async def test_alone_the_last_checkpoint_has_forgotten_the_grant(recorded: Recorded) -> None:
    """What an earlier one still tells is what the owner was told that she gives up."""
    owner = recorded.world.owner
    job = await recorded.begin(restarts=Restarts.ALONE)
    assert (await recorded.ended(job)).state is JobState.SUCCEEDED
    key = owner.store.dataset(job.spec.dataset.dataset_id).key
    async with restored(recorded, job, recorded.versions[STORED][-1]) as server:
        done, _ = await asyncio.wait({server.ready}, timeout=QUIET_S)
        assert not done, "it opened its door"
        assert [told.state for told in server.told] == [JobState.SUCCEEDED]
    async with restored(recorded, job, recorded.versions[STORED][3]) as server:
        launch = launch_spec(job.spec, Role.TRAINER, GatewayChannel(token="t"))
        async with join(await server.ready, launch, DirectPlatform(recorded.tee)) as member:
            assert member.ticket.dataset_key == key


async def test_nothing_that_is_stored_holds_the_datasets_key_or_the_share(recorded: Recorded) -> None:
    job = await recorded.begin(trainers=2, terms={"shards": 2})
    await recorded.ended(job)
    owner = recorded.world.owner
    record = owner.store.job(job.spec.job)
    assert record.terms is not None
    grant = make_grant(owner.store, record, record.terms, policy_for(recorded.tee))
    names = {STORED, f"{STORED}-1", "checkpoint-trainer-0", "checkpoint-trainer-1", "checkpoint-leader"}
    checkpoints = {name: recorded.versions[name] for name in names}
    assert opened(recorded, checkpoints, grant, None) == 0
    # And they are what they are taken for: with the share all open, and hold neither.
    assert opened(recorded, checkpoints, grant, grant.share) == sum(map(len, checkpoints.values()))


def opened(recorded: Recorded, stored: dict[str, list[bytes]], grant: Grant, share: bytes | None) -> int:
    """How many objects open with the processor's keys and this share. None may hold a key."""
    count = 0
    for name, versions in stored.items():
        for sealed in versions:
            for content in _attempts(recorded.tee, name, sealed, grant, share):
                assert grant.dataset_key not in content
                assert grant.share not in content
                count += 1
    return count


def _attempts(
    tee: SoftwareTee, name: str, sealed: bytes, grant: Grant, share: bytes | None
) -> Iterator[bytes]:
    """Every way in that the code knows, by somebody who even knows the grant's name."""
    job = bytes.fromhex(grant.job) + bytes.fromhex(grant.spec_digest)
    number = int(name[-1]) if name[-1].isdigit() else 0
    shares = {share, None if share is None else shard_share(share, grant.job, number)}
    named = job + grant_name(grant, grant.spec_digest)
    contexts = (job, named, named + number.to_bytes(4, "little"), named + bytes([number]))
    for label in (CHECKPOINT, TRAINER_CHECKPOINT, LEADER_CHECKPOINT):
        for context in contexts:
            for one in shares:
                with suppress(SealingError):
                    yield Sealer(DirectPlatform(tee), label, one).open(sealed, context=context)


def openings(world: MortalWorld, job: Job) -> list[Entry]:
    """What the owner's side did after the first grant."""
    written = History(world.owner.store, job.spec.job).entries()
    return [entry for entry in written if entry.did in (Deed.GRANTED_AGAIN, Deed.REFUSED)]


async def test_a_killed_job_waits_without_its_owner_and_goes_on_with_a_keyholder(recorded: Recorded) -> None:
    world = recorded.world
    world.launcher.backend.deaths = [Death((SERVER,), f"PUT {STORED}", 4, heard=True)]
    job = await recorded.begin()
    stands = (await recorded.waits(job)).exchanges_done
    await asyncio.sleep(QUIET_S)
    now = await world.owner.job(job)
    assert (now.awaiting_owner, now.exchanges_done, now.state) == (True, stands, JobState.TRAINING)
    async with keyholding(world.owner):
        ended = await recorded.ended(job)
    assert (ended.state, ended.failure, ended.awaiting_owner) == (JobState.SUCCEEDED, None, False)
    (entry,) = openings(world, job)
    assert (entry.did, entry.facts["measurement"]) == (Deed.GRANTED_AGAIN, MEASUREMENT.hex())


async def test_a_keyholder_opens_no_enclave_of_another_measurement(recorded: Recorded) -> None:
    world = recorded.world
    world.launcher.backend.deaths = [Death((SERVER,), f"PUT {STORED}", 4, heard=True)]
    job = await recorded.begin()
    await recorded.waits(job)
    keyholder = Keyholder(world.owner, policy=policy_for(recorded.tee, OTHER_IMAGE.measurement))
    for _ in range(3):
        assert await keyholder.look()
    (entry,) = openings(world, job)
    assert entry.did is Deed.REFUSED
    assert "MRENCLAVE" in str(entry.facts["reason"])
    assert (await world.owner.job(job)).awaiting_owner
    await world.owner.cancel(job)


async def test_a_host_that_starts_enclaves_again_all_the_time_gets_no_endless_openings(
    recorded: Recorded,
) -> None:
    world = recorded.world
    world.launcher.backend.deaths = [Death((SERVER,), "POST ready", 1, heard=True) for _ in range(9)]
    job = await recorded.begin()
    keyholder = Keyholder(world.owner, most_an_hour=2)
    async with asyncio.timeout(30):
        while Deed.REFUSED not in [entry.did for entry in openings(world, job)]:
            await keyholder.look()
            await asyncio.sleep(0.02)
    acts = [entry.did for entry in openings(world, job)]
    assert acts == [Deed.GRANTED_AGAIN, Deed.GRANTED_AGAIN, Deed.REFUSED]
    await world.owner.cancel(job)


def test_the_hourly_limit_frees_what_is_an_hour_old() -> None:
    now = [0.0]
    limit = HourlyLimit(2, lambda: now[0])
    assert [limit.take(), limit.take(), limit.take()] == [True, True, False]
    now[0] = 3600.0
    assert limit.take()
