"""Exchanges over a real server and real mutual TLS."""

import asyncio

import numpy as np
import pytest

from chiron.ps.client import Merged, ParameterClient
from chiron.ps.errors import ExchangeRefused, TrialOver
from chiron.wire.exchange import ExchangeSpec
from tests.ps.loopback import job

N = 1000


def spec_of(**fields: object) -> ExchangeSpec:
    """A small exchange of two trainers."""
    return ExchangeSpec.model_validate({"parameters": N, "trainers": 2, "exchanges": 6, **fields})


async def begin(clients: list[ParameterClient], trial: int = 0, value: float = 1.0) -> None:
    """Publish a constant vector and let everyone start from it."""
    await clients[0].publish(trial, b"plan %d" % trial, np.full(N, value, np.float32))
    starts = await asyncio.gather(*(client.start(trial) for client in clients))
    assert all(start.plan == b"plan %d" % trial for start in starts)
    assert all((start.vector == value).all() for start in starts)


async def exchange(clients: list[ParameterClient], number: int, vectors: list[float]) -> list[Merged]:
    """All trainers push constant vectors; the sums are [trainer + 1, 0, 0, …]."""
    pushes = []
    for k, (client, value) in enumerate(zip(clients, vectors, strict=True)):
        sums = np.zeros(64)
        sums[0] = k + 1
        pushes.append(client.exchange(number, np.full(N, value, np.float32), sums))
    return await asyncio.gather(*pushes)


async def test_the_mean_of_the_changes_is_added_to_the_shared_vector() -> None:
    async with job(spec_of(mode="sync")) as (_, clients):
        await begin(clients)
        merged = await exchange(clients, 0, [2.0, 4.0])
        for result in merged:
            assert (result.vector == 3.0).all()
            assert result.sums[0] == 3.0
            assert result.exchange == 0
        merged = await exchange(clients, 1, [3.0, 5.0])
        assert (merged[1].vector == 4.0).all()


async def test_a_shorter_vector_and_plan_are_padded_on_the_wire_and_whole_on_arrival() -> None:
    async with job(spec_of()) as (_, clients):
        await clients[0].publish(0, b"", np.ones(10, np.float32))
        starts = await asyncio.gather(*(client.start(0) for client in clients))
        assert starts[1].plan == b""
        assert starts[1].vector.shape == (N,)
        assert starts[1].vector.sum() == 10
        merged = await asyncio.gather(
            *(client.exchange(0, np.full(10, 2.0, np.float32), np.zeros(64)) for client in clients)
        )
        assert merged[0].vector.sum() == 20
        assert (merged[0].vector[10:] == 0).all()


async def test_local_mode_takes_the_outer_nesterov_step() -> None:
    rate, momentum = 0.5, 0.75
    async with job(spec_of(outer_learning_rate=rate, outer_momentum=momentum)) as (_, clients):
        await begin(clients)
        vector, velocity = 1.0, 0.0
        for number in range(4):
            mine, theirs = vector + 0.5, vector + 1.5
            merged = await exchange(clients, number, [mine, theirs])
            velocity = momentum * velocity + 1.0
            vector += rate * (1.0 + momentum * velocity)
            np.testing.assert_allclose(merged[0].vector, vector, rtol=1e-6)
            np.testing.assert_array_equal(merged[0].vector, merged[1].vector)


async def test_publishing_a_trial_resets_vector_and_momentum() -> None:
    async with job(spec_of(outer_momentum=0.9)) as (_, clients):
        await begin(clients)
        for number in range(3):
            await exchange(clients, number, [5.0, 6.0])
        await begin(clients, trial=1, value=-1.0)
        merged = await exchange(clients, 3, [0.0, 0.0])
        np.testing.assert_allclose(merged[0].vector, -1.0 + 1.0 * 1.9, rtol=1e-6)


async def test_a_trainer_that_is_not_the_leader_cannot_publish() -> None:
    async with job(spec_of()) as (server, clients):
        with pytest.raises(ExchangeRefused) as refusal:
            await clients[1].publish(0, b"", np.zeros(N, np.float32))
        assert refusal.value.code == "publish-forbidden"
        assert server.trial == -1


async def test_publishing_the_same_trial_again_changes_nothing() -> None:
    async with job(spec_of()) as (_, clients):
        await begin(clients, value=1.0)
        await clients[0].publish(0, b"other", np.full(N, 9.0, np.float32))
        start = await clients[1].start(0)
        assert start.plan == b"plan 0"
        assert (start.vector == 1.0).all()


async def test_a_future_exchange_is_refused_and_the_connection_stays_usable() -> None:
    async with job(spec_of()) as (_, clients):
        await begin(clients)
        with pytest.raises(ExchangeRefused) as refusal:
            await clients[0].exchange(1, np.zeros(N, np.float32), np.zeros(64))
        assert refusal.value.code == "exchange-ahead"
        merged = await exchange(clients, 0, [2.0, 2.0])
        assert (merged[0].vector == 2.0).all()


async def test_a_second_push_for_the_same_exchange_gets_the_same_result_and_is_not_merged() -> None:
    async with job(spec_of()) as (server, clients):
        await begin(clients)
        first = await exchange(clients, 0, [2.0, 4.0])
        vector = first[0].vector.copy()
        again = await clients[0].exchange(0, np.full(N, 100.0, np.float32), np.ones(64))
        np.testing.assert_array_equal(again.vector, vector)
        assert again.sums[0] == 3.0
        np.testing.assert_array_equal(server.shared.vector, vector)


async def test_trials_follow_one_another_and_a_finished_one_is_over() -> None:
    async with job(spec_of()) as (_, clients):
        await begin(clients)
        with pytest.raises(ExchangeRefused) as refusal:
            await clients[0].publish(2, b"", np.zeros(N, np.float32))
        assert refusal.value.code == "publish-out-of-order"
        await exchange(clients, 0, [2.0, 2.0])
        await clients[0].publish(1, b"", np.zeros(N, np.float32))
        with pytest.raises(TrialOver):
            await clients[1].start(0)
        with pytest.raises(TrialOver):
            await clients[1].exchange(1, np.zeros(N, np.float32), np.zeros(64))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
async def test_a_change_that_is_not_finite_is_set_aside_and_said_so(poison: float) -> None:
    async with job(spec_of()) as (_, clients):
        await begin(clients)
        merged = await exchange(clients, 0, [poison, 4.0])
        for result in merged:
            assert (result.vector == 4.0).all()
            assert result.excluded == 1
        assert merged[0].set_aside
        assert not merged[1].set_aside


async def test_where_every_change_is_set_aside_the_vector_stays() -> None:
    async with job(spec_of(outer_momentum=0.9)) as (_, clients):
        await begin(clients)
        merged = await exchange(clients, 0, [np.nan, np.nan])
        assert (merged[0].vector == 1.0).all()
        assert merged[0].excluded == 2


async def test_a_nan_among_the_sums_counts_as_nothing() -> None:
    async with job(spec_of()) as (_, clients):
        await begin(clients)
        vector = np.zeros(N, np.float32)
        merged = await asyncio.gather(
            clients[0].exchange(0, vector, np.full(64, np.nan)), clients[1].exchange(0, vector, np.ones(64))
        )
        assert (merged[0].sums == 1.0).all()


async def test_progress_can_be_followed_from_the_server() -> None:
    async with job(spec_of()) as (server, clients):
        second = asyncio.create_task(server.completed(2))
        await begin(clients)
        await exchange(clients, 0, [2.0, 4.0])
        await server.completed(1)
        assert not second.done()
        await exchange(clients, 1, [2.0, 4.0])
        await asyncio.wait_for(second, 5)
