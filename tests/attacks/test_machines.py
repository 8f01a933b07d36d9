"""Attacks on machines that a model is kept for: the host wants it opened elsewhere, by others, or more often.

Two machines of one maker stand here, and a third that no grant names. Adversaries are the host, who carries
every object to any machine and shows whatever evidence it has, and who knows every public key.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import (
    AnswerRefused,
    AttestationPolicy,
    EvidenceRejected,
    GrantImpossible,
    MachineRefused,
    OwnerStore,
)
from chiron.api.allowed_machines import allowed_machines, make_file
from chiron.api.keys import TenantRole
from chiron.api.server import RunningGateway, running_gateway
from chiron.api.settings import Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.async_client import AsyncClient
from chiron.client.errors import ConfigurationInvalid, GatewayError, RecordMissing, SealedElsewhere
from chiron.client.gateway_session import GatewaySession
from chiron.client.ledger import Ledgers
from chiron.client.machines import MachineBook
from chiron.client.pass_file import PassFile
from chiron.client.pass_holder import PassHolder
from chiron.client.passes import IssuedPass, PassBook
from chiron.runtime.attestation.platform import attest
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import GatewayRefused, OpenFailed
from chiron.runtime.errors import SealedElsewhere as SealedElsewhereHere
from chiron.runtime.roles.machine import machine_evidence
from chiron.runtime.sealing.machine_key import own_key, seal_secret
from chiron.runtime.sealing.sealer import MAGIC, OVERHEAD_BYTES, Sealer
from chiron.wire.attestation import Claims, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import PredictionPolicy
from chiron.wire.labels import CHECKPOINT, MODEL
from chiron.wire.launch import GatewayChannel
from chiron.wire.machines import MAX_MACHINES, NO_JOB, MachineEvidence, MachineKey, machine_nonce
from chiron.wire.opening import Pass
from tests.attacks.test_grants import SPEC as JOB
from tests.attacks.test_grants import Owner, begun
from tests.support.launcher import SimulatedLauncher
from tests.support.lone_server import started
from tests.support.predictor_door import SPEC, Door, elsewhere, predictor_door
from tests.support.roles import RolesInProcess
from tests.support.tee import (
    IMAGE,
    MEASUREMENT,
    OTHER_IMAGE,
    DirectPlatform,
    QuotingServices,
    machine_of_the_same_maker,
    open_tee,
    policy_for,
)

SHARE = b"\x5a" * 32


@dataclass(frozen=True)
class Makers:
    """Machines under one root."""

    here: SoftwareTee
    there: SoftwareTee
    unnamed: SoftwareTee

    @property
    def key(self) -> MachineKey:
        """Of the machine that the owner names besides."""
        return own_key(DirectPlatform(self.there))


@pytest.fixture(scope="module")
def makers(tmp_path_factory: pytest.TempPathFactory) -> Makers:
    home = tmp_path_factory.mktemp("machines")
    here = open_tee(home / "here")
    others = (open_tee(machine_of_the_same_maker(home / "here", home / name)) for name in ("there", "un"))
    return Makers(here, *others)


class TestSealedObjects:
    """By somebody who knows every public key, and moves objects between machines."""

    @pytest.fixture
    def sealed(self, makers: Makers) -> bytes:
        return _sealer(makers.here, machines=[makers.key]).seal(b"weights", size=64, context=b"job")

    def test_it_opens_on_the_machines_that_were_named_with_the_share(
        self, makers: Makers, sealed: bytes
    ) -> None:
        for tee in (makers.here, makers.there):
            assert _sealer(tee).open(sealed, context=b"job") == b"weights"

    def test_it_opens_nowhere_else_and_by_no_other_code(self, makers: Makers, sealed: bytes) -> None:
        other_code = Sealer(DirectPlatform(makers.there, OTHER_IMAGE.measurement), MODEL, SHARE)
        for sealer in (_sealer(makers.unnamed), other_code):
            with pytest.raises(SealedElsewhereHere):
                sealer.open(sealed, context=b"job")

    def test_a_machine_that_was_named_opens_nothing_without_the_share(
        self, makers: Makers, sealed: bytes
    ) -> None:
        for share in (None, bytes(32)):
            with pytest.raises(OpenFailed):
                Sealer(DirectPlatform(makers.there), MODEL, share).open(sealed, context=b"job")
        with pytest.raises(OpenFailed):
            _sealer(makers.there).open(sealed, context=b"another job")

    def test_a_machine_that_was_not_named_is_added_by_nobody(self, makers: Makers, sealed: bytes) -> None:
        """The host puts an entry of its own making, or another object's, into the room for one."""
        mine = own_key(DirectPlatform(makers.unnamed))
        of_another = _sealer(makers.here, machines=[mine]).seal(b"mine", size=64, context=b"job")
        forged = b"\0" * 65 + seal_secret(mine, secrets.token_bytes(32), MODEL)
        for entry in (forged, _places(of_another)[0]):
            for place in range(MAX_MACHINES):
                altered = _with_place(sealed, place, entry)
                for tee in (makers.unnamed, makers.there, makers.here):
                    with pytest.raises(OpenFailed):
                        _sealer(tee).open(altered, context=b"job")

    def test_a_machine_that_was_named_is_taken_away_unseen_by_nobody(
        self, makers: Makers, sealed: bytes
    ) -> None:
        without = _with_place(sealed, 0, b"\0" * len(_places(sealed)[0]))
        for tee in (makers.here, makers.there):
            with pytest.raises(OpenFailed):
                _sealer(tee).open(without, context=b"job")

    def test_a_host_that_seals_to_a_machines_public_key_makes_nothing_that_opens(
        self, makers: Makers
    ) -> None:
        """It has the code, and any machine; it lacks the share."""
        for share in (None, bytes(32)):
            forger = Sealer(DirectPlatform(makers.unnamed), MODEL, share, machines=[makers.key])
            forged = forger.seal(b"mine", size=64, context=b"job")
            for opener in (_sealer(makers.there), Sealer(DirectPlatform(makers.there), MODEL)):
                with pytest.raises(OpenFailed):
                    opener.open(forged, context=b"job")

    def test_what_has_no_share_is_for_its_own_machine_alone(self, makers: Makers) -> None:
        sealer = Sealer(DirectPlatform(makers.here), CHECKPOINT, machines=[makers.key])
        sealed = sealer.seal(b"grant", size=64, context=b"job")
        assert not any(b"".join(_places(sealed)))
        with pytest.raises(SealedElsewhereHere):
            Sealer(DirectPlatform(makers.there), CHECKPOINT).open(sealed, context=b"job")

    def test_sizes_do_not_tell_for_how_many_machines_it_is(self, makers: Makers) -> None:
        for count in range(MAX_MACHINES + 1):
            sealer = _sealer(makers.here, machines=[makers.key] * count)
            assert len(sealer.seal(b"weights", size=64, context=b"job")) == 64 + OVERHEAD_BYTES


def _sealer(tee: SoftwareTee, machines: "list[MachineKey] | tuple[()]" = ()) -> Sealer:
    return Sealer(DirectPlatform(tee), MODEL, SHARE, machines=machines)


PLACE_BYTES = 65 + 32 + 1136


def _places_at(sealed: bytes) -> int:
    return sealed.index(MAGIC) - MAX_MACHINES * PLACE_BYTES


def _places(sealed: bytes) -> list[bytes]:
    at = _places_at(sealed)
    return [sealed[at + n * PLACE_BYTES : at + (n + 1) * PLACE_BYTES] for n in range(MAX_MACHINES)]


def _with_place(sealed: bytes, number: int, entry: bytes) -> bytes:
    at = _places_at(sealed) + number * PLACE_BYTES
    return sealed[:at] + entry + sealed[at + PLACE_BYTES :]


class TestParameterServer:
    """A job whose machine is lost, and whose host starts its parameter server on another one."""

    async def test_it_goes_on_where_the_grant_says_once_its_owner_sent_it_again(self, makers: Makers) -> None:
        owner = Owner(makers.here)
        kept = await begun(owner, makers.here, machines=[makers.key])
        async with started(JOB, DirectPlatform(makers.there), kept) as server:
            stranger = Owner(makers.here)
            refused = await server.grant(await stranger.sealed(server, machines=[makers.key]))
            assert refused == "checkpoint-invalid"
            assert not server.ready.done()
            assert await server.grant(await owner.sealed(server, machines=[makers.key])) is None
            await asyncio.wait_for(asyncio.shield(server.ready), 10)

    async def test_it_does_not_where_the_grant_says_nothing_of_it(self, makers: Makers) -> None:
        owner = Owner(makers.here)
        named = await begun(owner, makers.here, machines=[makers.key])
        unnamed = await begun(owner, makers.here)
        for tee, kept in ((makers.unnamed, named), (makers.there, unnamed)):
            async with started(JOB, DirectPlatform(tee), kept) as server:
                # The owner names it only now: too late for what was sealed before.
                again = await owner.sealed(server, machines=[own_key(DirectPlatform(tee))])
                assert await server.grant(again) == "sealed-elsewhere"
                assert not server.ready.done()

    async def test_a_key_that_is_none_is_refused_with_the_grant(self, makers: Makers) -> None:
        """And not at a checkpoint, when the data has been read."""
        owner, good = Owner(makers.here), makers.key.public_key
        for bad in (b"\xff" * len(good), good[:-32] + bytes(32)):
            async with started(JOB, DirectPlatform(makers.here), machines=(sha256_hex(bad),)) as server:
                key = MachineKey(public_key=bad, recipe=b"")
                assert await server.grant(await owner.sealed(server, machines=[key])) == "machine-key-invalid"

    async def test_an_owner_takes_no_model_to_a_machine_of_her_own(self, makers: Makers) -> None:
        """There she could ask it without end, and break the machine to read the weights."""
        hers, allowed = own_key(DirectPlatform(makers.unnamed)), (sha256_hex(makers.key.public_key),)
        owner = Owner(makers.here)
        for named in ([hers], [makers.key, hers], [hers.model_copy(update={"recipe": b"x"})]):
            async with started(JOB, DirectPlatform(makers.here), machines=allowed) as server:
                refused = await server.grant(await owner.sealed(server, machines=named))
                assert refused == "machine-not-allowed"
                assert server.objects == {}

    def test_a_line_that_names_no_machine_allows_none(self, tmp_path: Path) -> None:
        settings, key = Settings(state_dir=tmp_path), "ab" * 32
        assert allowed_machines(settings) == ()
        make_file(settings)
        assert allowed_machines(settings) == ()
        lines = f"{key} # paris\n{key[1:]}\n*\nany\n{key.upper()}\n  {key}  \n#{'cd' * 32}\n"
        (tmp_path / "machines").write_text(lines)
        make_file(settings)
        assert allowed_machines(settings) == (key,)

    async def test_what_goes_on_alone_is_for_no_other_machine(self, makers: Makers) -> None:
        owner = Owner(makers.here, restarts="alone")  # type: ignore[arg-type]
        kept = await begun(owner, makers.here, machines=[makers.key])
        async with started(JOB, DirectPlatform(makers.there), kept) as server:
            assert await server.grant(await owner.sealed(server, machines=[makers.key])) == "sealed-elsewhere"


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QuotingServices, QuotingServices]]:
    """Two machines' quoting services."""
    first = tmp_path_factory.mktemp("q")
    here = QuotingServices(first)
    second = tmp_path_factory.mktemp("q")
    machine_of_the_same_maker(first / "tee", second / "tee")
    there = QuotingServices(second)
    yield here, there
    here.close()
    there.close()


BUDGET = 10
ROWS = np.ones((1, 2, 3), np.float32)


class TestPredictors:
    """One model, open on two machines at once."""

    @pytest.fixture
    async def doors(
        self, quoting: tuple[QuotingServices, QuotingServices], tmp_path: Path
    ) -> AsyncIterator[tuple[Door, Door]]:
        here, there = quoting
        machines = [await asyncio.to_thread(own_key, there.platform(IMAGE))]
        policy = PredictionPolicy(query_budget=BUDGET)
        async with (
            predictor_door(here, tmp_path, policy, machines) as first,
            elsewhere(first, there, tmp_path) as second,
        ):
            yield first, second

    async def test_the_budget_is_one_on_both(self, doors: tuple[Door, Door]) -> None:
        first, second = doors
        assert await _asked(first, 4) == 4
        assert await _asked(second, BUDGET) == BUDGET - 4
        assert await _asked(first, 1) == 0
        assert Ledgers(first.store).read(SPEC.job).spent == BUDGET

    async def test_both_at_once_answer_no_row_more(self, doors: tuple[Door, Door]) -> None:
        answered = await asyncio.gather(*(_asked(door, BUDGET) for door in doors))
        assert sum(answered) == BUDGET

    async def test_rows_of_a_pass_are_lent_to_one_of_them(self, doors: tuple[Door, Door]) -> None:
        first, second = doors
        content = await _pass(first, rows=6)
        for door in (first, second):
            assert await _asked(door, 0) == 0
        async with PassHolder(content) as holder:
            assert len(await holder.predict(np.repeat(ROWS, 6, axis=0), address=first.address)) == 6
            with pytest.raises(AnswerRefused) as refused:
                await holder.predict(ROWS, address=second.address)
        assert refused.value.code == "pass-exhausted"
        loans = Ledgers(first.store).read(SPEC.job).loans
        assert sorted(loan.passes[content.allowed.id] for loan in loans) == [0, 6]

    async def test_an_opening_for_one_opens_not_the_other(self, doors: tuple[Door, Door]) -> None:
        first, second = doors
        key = await _hpke_key(first)
        assert key != await _hpke_key(second)
        assert await _asked(first, 1) == 1
        async with second.client() as client, client.direct_predictor(SPEC.job, second.address) as session:
            ledger = Ledgers(second.store).read(SPEC.job)
            numbers = {loan.predictor_key_sha256: loan.number for loan in ledger.loans}
            assert len(numbers) == 2
            assert len(set(numbers.values())) == 2
            assert len(await session.predict(ROWS)) == 1

    async def test_where_it_was_not_named_the_refusal_says_what_is_missing(
        self, quoting: tuple[QuotingServices, QuotingServices], tmp_path: Path
    ) -> None:
        here, there = quoting
        async with (
            predictor_door(here, tmp_path, PredictionPolicy()) as first,
            elsewhere(first, there, tmp_path) as second,
            second.client() as client,
        ):
            with pytest.raises(SealedElsewhere, match="tee/") as refused:
                async with client.direct_predictor(SPEC.job, second.address):
                    pytest.fail("it was opened")
        assert refused.value.code == "sealed-elsewhere"


async def _asked(door: Door, rows: int) -> int:
    """How many of so many rows were answered."""
    answered = 0
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
        for _ in range(rows):
            with suppress(AnswerRefused):
                answered += len(await session.predict(ROWS))
    return answered


async def _pass(door: Door, rows: int) -> PassFile:
    """A pass that the owner has given away."""
    holder, now = Ed25519PrivateKey.generate(), int(datetime.now(UTC).timestamp())
    allowed = Pass(
        id="c" * 32,
        job=SPEC.job,
        holder=holder.public_key().public_bytes_raw(),
        rows=rows,
        until=now + 3600,
    )
    PassBook(door.store).add(IssuedPass(allowed=allowed, issued_at=now))
    return PassFile(
        allowed=allowed,
        holder_key=holder.private_bytes_raw(),
        owner_public_key=door.store.job(SPEC.job).signing_public_key,
        spec=SPEC,
        policy=policy_for(door.quoting.tee, IMAGE.measurement),
        gateway="http://127.0.0.1:9",
    )


async def _hpke_key(door: Door) -> bytes:
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
        return session.verified.claims.hpke_public_key or b""


Shown = Callable[[bytes], MachineEvidence]


class HostsGateway:
    """Shows what the host wants of a machine."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    async def machine(self, nonce: bytes) -> MachineEvidence:
        return self._shown(nonce)


class TestAdding:
    """What a host shows where an owner asks for a machine's key."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> OwnerStore:
        return OwnerStore(tmp_path / "home")

    async def test_a_genuine_machine_is_taken_and_named_in_grants(
        self, makers: Makers, store: OwnerStore
    ) -> None:
        async with _client(makers, store, _honest(makers.there)) as client:
            verified = await client.add_machine("paris")
            assert verified.quote.measurement == MEASUREMENT.hex()
            assert MachineBook(store).keys(["paris", "paris"]) == (makers.key,)
            await client.check_machines([makers.key], MEASUREMENT.hex())

    async def test_evidence_of_other_code_is_refused(self, makers: Makers, store: OwnerStore) -> None:
        await _refused(makers, store, _honest(makers.there, OTHER_IMAGE.measurement), "evidence-measurement")

    async def test_a_machine_under_another_root_is_refused(
        self, makers: Makers, store: OwnerStore, tmp_path: Path
    ) -> None:
        stranger = open_tee(tmp_path / "tee")
        await _refused(makers, store, _honest(stranger), "evidence-certificate-chain")

    async def test_evidence_that_was_shown_before_is_refused(self, makers: Makers, store: OwnerStore) -> None:
        before = _honest(makers.there)(secrets.token_bytes(32))
        await _refused(makers, store, lambda _: before, "evidence-nonce")

    async def test_a_key_of_the_hosts_own_is_refused(self, makers: Makers, store: OwnerStore) -> None:
        def swapped(nonce: bytes) -> MachineEvidence:
            told, mine = _honest(makers.there)(nonce), own_key(DirectPlatform(makers.unnamed))
            claims = told.evidence.claims.model_copy(update={"hpke_public_key": mine.public_key})
            return told.model_copy(update={"evidence": told.evidence.model_copy(update={"claims": claims})})

        await _refused(makers, store, swapped, "evidence-claims")

    async def test_a_recipe_of_the_hosts_own_is_refused(self, makers: Makers, store: OwnerStore) -> None:
        """With it the machine would derive another key, and what was sealed for it would never open."""

        def swapped(nonce: bytes) -> MachineEvidence:
            return _honest(makers.there)(nonce).model_copy(update={"recipe": b"another"})

        await _refused(makers, store, swapped, "evidence-nonce")

    async def test_the_key_of_a_predictor_that_the_host_started_is_refused(
        self, makers: Makers, store: OwnerStore
    ) -> None:
        """Its claims are genuine, and its key lives no longer than it does."""

        def of_predictor(nonce: bytes) -> MachineEvidence:
            claims = Claims(
                role=Role.PREDICTOR,
                job=NO_JOB,
                hpke_public_key=makers.key.public_key,
                nonce=machine_nonce(nonce, b""),
            )
            return MachineEvidence(evidence=attest(DirectPlatform(makers.there), claims), recipe=b"")

        await _refused(makers, store, of_predictor, "evidence-role-and-job")

    async def test_another_machine_does_not_take_over_a_name(self, makers: Makers, store: OwnerStore) -> None:
        async with _client(makers, store, _honest(makers.there)) as client:
            await client.add_machine("paris")
            await client.add_machine("paris")
        async with _client(makers, store, _honest(makers.unnamed)) as client:
            with pytest.raises(MachineRefused) as refused:
                await client.add_machine("paris")
            assert refused.value.code == "machine-changed"
            assert MachineBook(store).keys(["paris"]) == (makers.key,)
            MachineBook(store).remove("paris")
            await client.add_machine("paris")

    async def test_a_name_leaves_its_folder_in_no_way(self, makers: Makers, store: OwnerStore) -> None:
        async with _client(makers, store, _honest(makers.there)) as client:
            for name in ("../jobs/x", "a/b", "", ".", "A", "x" * 33, "a\x1b[2J"):
                with pytest.raises(ConfigurationInvalid):
                    await client.add_machine(name)
                with pytest.raises(ConfigurationInvalid):
                    MachineBook(store).named(name)
        with pytest.raises(RecordMissing):
            MachineBook(store).named("paris")


class TestGranting:
    """Between the day that a machine was added and the day that a grant names it."""

    @pytest.fixture
    async def store(self, makers: Makers, tmp_path: Path) -> OwnerStore:
        store = OwnerStore(tmp_path / "home")
        async with _client(makers, store, _honest(makers.there)) as client:
            await client.add_machine("paris")
        return store

    async def test_one_of_other_code_than_the_job_runs_is_not_granted(
        self, makers: Makers, store: OwnerStore
    ) -> None:
        async with _client(makers, store, _honest(makers.there)) as client:
            with pytest.raises(GrantImpossible) as refused:
                await client.check_machines([makers.key], OTHER_IMAGE.measurement.hex())
        assert refused.value.code == "machine-of-other-code"

    async def test_one_that_the_policy_of_today_refuses_is_not_granted(
        self, makers: Makers, store: OwnerStore
    ) -> None:
        today = policy_for(makers.here).model_copy(update={"minimum_tcb_evaluation": 10_000})
        async with _client(makers, store, _honest(makers.there), today) as client:
            with pytest.raises(EvidenceRejected):
                await client.check_machines([makers.key])

    async def test_one_whose_evidence_is_too_old_is_not_granted(
        self, makers: Makers, store: OwnerStore
    ) -> None:
        shown, later = _honest(makers.there), _now() + timedelta(days=400)
        async with _client(makers, store, shown, clock=lambda: later) as client:
            with pytest.raises(EvidenceRejected):
                await client.check_machines([makers.key])

    async def test_a_key_that_was_never_verified_is_not_granted(
        self, makers: Makers, store: OwnerStore
    ) -> None:
        mine = own_key(DirectPlatform(makers.unnamed))
        async with _client(makers, store, _honest(makers.there)) as client:
            for key in (mine, makers.key.model_copy(update={"recipe": b"x"})):
                with pytest.raises(GrantImpossible) as refused:
                    await client.check_machines([key])
                assert refused.value.code == "machine-unknown"


def _now() -> datetime:
    return datetime.now(UTC)


def _honest(tee: SoftwareTee, measurement: bytes = MEASUREMENT) -> Shown:
    return lambda nonce: machine_evidence(DirectPlatform(tee, measurement), nonce)


def _client(
    makers: Makers,
    store: OwnerStore,
    shown: Shown,
    policy: AttestationPolicy | None = None,
    clock: Callable[[], datetime] = _now,
) -> AsyncClient:
    """The owner's client, at a gateway of the host's."""
    accepted = policy or policy_for(makers.here)
    client = AsyncClient("http://127.0.0.1:9", "key", policy=accepted, store=store, clock=clock)
    client.gateway.machine = HostsGateway(shown).machine  # type: ignore[method-assign]
    return client


async def _refused(makers: Makers, store: OwnerStore, shown: Shown, code: str) -> None:
    async with _client(makers, store, shown) as client:
        with pytest.raises(EvidenceRejected) as refused:
            await client.add_machine("paris")
    assert refused.value.code == code
    assert MachineBook(store).all() == []


class TestTelling:
    """A gateway that is asked for its machine's key, by tenants and at the enclaves' door."""

    @pytest.fixture
    async def gateway(self, makers: Makers) -> AsyncIterator[RunningGateway]:
        with TemporaryDirectory(prefix="chiron-") as place:
            settings = Settings(state_dir=Path(place, "state"), port=0)
            backend = RolesInProcess(makers.there, settings.socket_path, Path(place))
            launcher = SimulatedLauncher(backend)
            async with running_gateway(settings, launcher) as running:
                yield running
            assert launcher.running == []

    async def test_a_tenant_that_asks_without_end_waits_for_each_answer(
        self, gateway: RunningGateway
    ) -> None:
        first, other = [await gateway.gateway.keys.create(name, TenantRole.OWNER) for name in ("a", "b")]
        async with GatewaySession(gateway.url, first) as a, GatewaySession(gateway.url, other) as b:
            asked = [one.machine(bytes(32)) for one in (a, a, a, a, a, a, b)]
            told = await asyncio.gather(*asked, return_exceptions=True)
            assert {one.code for one in told if isinstance(one, GatewayError)} == {"overloaded"}
            assert isinstance(told[-1], MachineEvidence)
            assert (await a.machine(bytes(32))).evidence.claims.role is Role.MACHINE

    async def test_whoever_was_not_launched_for_it_tells_no_key(
        self, gateway: RunningGateway, makers: Makers
    ) -> None:
        forged = machine_evidence(DirectPlatform(makers.unnamed), bytes(32))
        channel = GatewayChannel(socket=str(gateway.enclave_socket), token="0123456789abcdef.guessed")
        async with GatewayClient(channel) as stranger:
            with pytest.raises(GatewayRefused) as refused:
                await stranger.machine(forged)
        assert refused.value.code == "unauthenticated"
