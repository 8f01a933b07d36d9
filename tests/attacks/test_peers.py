"""Enclaves of a job judge each other's machines by the owner's policy, neither more strictly nor less."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.membership import join
from chiron.runtime.channels.shards import ShardMembership
from chiron.runtime.errors import PeerRefused
from chiron.wire.attestation import Role, TcbStatus
from chiron.wire.enclave_api import Ready
from chiron.wire.p256 import generate_key
from tests.support.server_door import DATASET_KEY, Door, open_door
from tests.support.tee import DirectPlatform, QuotingServices, open_tee

ACCEPTED = frozenset({TcbStatus.CONFIGURATION_NEEDED})
STRICT = frozenset({TcbStatus.UP_TO_DATE})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the keys of a root that two machines have in common."""
    return tmp_path_factory.mktemp("u")


@pytest.fixture(scope="module")
def unconfigured(directory: Path) -> Iterator[QuotingServices]:
    """The enclaves of the machine that needs configuration."""
    services = QuotingServices(directory, TcbStatus.CONFIGURATION_NEEDED)
    yield services
    services.close()


@pytest.fixture(scope="module")
def well_kept(directory: Path, unconfigured: QuotingServices) -> DirectPlatform:
    """An enclave of the machine that is up to date."""
    return DirectPlatform(open_tee(directory / "tee"))


async def shard_of(door: Door, platform: Platform) -> None:
    async def find() -> Ready:
        return door.ready

    launch = door.launch(role=Role.SHARD, index=1)
    async with ShardMembership(launch, platform, generate_key(), find) as membership:
        await membership.join()


async def test_a_trainer_joins_on_a_machine_whose_patch_level_the_owner_accepts(
    unconfigured: QuotingServices,
) -> None:
    async with (
        open_door(unconfigured, accepted_tcb=ACCEPTED) as door,
        join(door.ready, door.launch(), door.platform) as membership,
    ):
        assert membership.ticket.dataset_key == DATASET_KEY


async def test_a_shard_joins_on_a_machine_whose_patch_level_the_owner_accepts(
    unconfigured: QuotingServices,
) -> None:
    async with open_door(unconfigured, accepted_tcb=ACCEPTED) as door:
        await shard_of(door, door.platform)


async def test_a_parameter_server_refuses_a_trainer_on_a_machine_that_the_owner_does_not_accept(
    unconfigured: QuotingServices,
) -> None:
    async with open_door(unconfigured, accepted_tcb=STRICT) as door:
        with pytest.raises(PeerRefused, match="403"):
            async with join(door.ready, door.launch(), door.platform):
                pytest.fail("it joined")


async def test_a_trainer_leaves_a_server_on_a_machine_that_the_owner_does_not_accept(
    unconfigured: QuotingServices, well_kept: DirectPlatform
) -> None:
    async with open_door(unconfigured, accepted_tcb=STRICT) as door:
        with pytest.raises(PeerRefused) as caught:
            async with join(door.ready, door.launch(), well_kept):
                pytest.fail("it joined")
    assert caught.value.code == "evidence-tcb-status"


async def test_a_shard_leaves_a_server_on_a_machine_that_the_owner_does_not_accept(
    unconfigured: QuotingServices, well_kept: DirectPlatform
) -> None:
    async with open_door(unconfigured, accepted_tcb=STRICT) as door:
        with pytest.raises(PeerRefused) as caught:
            await shard_of(door, well_kept)
    assert caught.value.code == "evidence-tcb-status"
