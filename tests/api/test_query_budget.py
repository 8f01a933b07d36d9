"""A budget of rows: spent before anything is answered, kept sealed at a gateway, not reset by a restart."""

from collections.abc import AsyncIterator

import pytest

from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import GatewayRefused, ModelUnusable
from chiron.runtime.roles.predictor_state import QueryBudget
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role
from chiron.wire.labels import BUDGET
from chiron.wire.launch import GatewayChannel
from chiron.wire.objects import query_budget
from tests.api.conftest import Party
from tests.support.scripts import silent
from tests.support.tee import DirectPlatform, open_tee

JOB = "ab" * 16
STORED = query_budget(0)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> DirectPlatform:
    return DirectPlatform(open_tee(tmp_path_factory.mktemp("tee")))


@pytest.fixture
async def gateway(world: Party, component: bytes) -> AsyncIterator[GatewayClient]:
    """The gateway as a predictor reaches it."""
    world.launcher.backend.scripts = dict.fromkeys(Role, silent)
    await world.create_job(component, trainers=1)
    server, _ = await world.launcher.launched(2)
    _, token = world.running.gateway.fleet.register("hospital", server.spec, Role.PREDICTOR)
    channel = GatewayChannel(socket=str(world.launcher.backend.socket), token=token)
    async with GatewayClient(channel) as client:
        yield client


def budget(platform: DirectPlatform, gateway: GatewayClient, limit: int = 10, job: str = JOB) -> QueryBudget:
    return QueryBudget(limit, job, Sealer(platform, BUDGET), gateway)


async def test_rows_are_answered_until_the_budget_is_used_up(
    platform: DirectPlatform, gateway: GatewayClient
) -> None:
    mine = budget(platform, gateway)
    await mine.load()
    assert await mine.spend(6)
    assert not await mine.spend(5)
    assert await mine.spend(4)
    assert not await mine.spend(1)


async def test_a_restarted_predictor_goes_on_from_the_stored_count(
    platform: DirectPlatform, gateway: GatewayClient
) -> None:
    before, after = budget(platform, gateway), budget(platform, gateway)
    assert await before.spend(7)
    await after.load()
    assert not await after.spend(4)
    assert await after.spend(3)


async def test_the_stored_count_is_of_one_size_and_no_two_are_alike(
    platform: DirectPlatform, gateway: GatewayClient
) -> None:
    mine = budget(platform, gateway)
    await mine.spend(1)
    first = await gateway.get_object(STORED.name, STORED.stored_bytes)
    await mine.spend(9)
    second = await gateway.get_object(STORED.name, STORED.stored_bytes)
    assert len(first) == len(second) == STORED.stored_bytes
    assert first != second


async def test_a_count_of_another_job_or_an_altered_one_is_refused(
    platform: DirectPlatform, gateway: GatewayClient
) -> None:
    await budget(platform, gateway, job="cd" * 16).spend(1)
    with pytest.raises(ModelUnusable) as refusal:
        await budget(platform, gateway).load()
    assert refusal.value.code == "budget-unreadable"
    await budget(platform, gateway).spend(1)
    sealed = await gateway.get_object(STORED.name, STORED.stored_bytes)
    await gateway.put_object(STORED.name, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(ModelUnusable):
        await budget(platform, gateway).load()


async def test_a_gateway_that_refuses_is_not_taken_for_an_empty_store(
    platform: DirectPlatform, world: Party
) -> None:
    channel = GatewayChannel(socket=str(world.launcher.backend.socket), token="of nobody")
    async with GatewayClient(channel) as gateway:
        with pytest.raises(GatewayRefused) as refusal:
            await budget(platform, gateway).load()
    assert refusal.value.code == "unauthenticated"
