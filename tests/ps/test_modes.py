"""The modes and merges that a spec can choose, over a real server."""

import asyncio

import numpy as np
import pytest
from pydantic import ValidationError

from chiron.ps.client import Agreed, Merged, ParameterClient
from chiron.ps.server import Agreement
from chiron.wire.exchange import ExchangeSpec
from tests.ps.loopback import job

N = 40_000


def spec_of(**fields: object) -> ExchangeSpec:
    """An exchange whose vector spans more than one block."""
    return ExchangeSpec.model_validate({"parameters": N, "trainers": 2, "exchanges": 50, **fields})


async def begin(clients: list[ParameterClient], vector: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    """Publish `vector` as trial 0's and let everyone start."""
    await clients[0].publish(0, b"", vector)
    await asyncio.gather(*(client.start(0) for client in clients))


async def push(client: ParameterClient, number: int, value: object) -> Merged:
    """Push a vector, or a constant one."""
    vector = np.broadcast_to(np.asarray(value, np.float32), (N,))
    return await client.exchange(number, vector, np.ones(64))


async def test_bfloat16_keeps_all_trainers_on_the_very_same_vector_and_loses_nothing_for_good() -> None:
    """With error feedback both ways, the sum of many steps too small for bfloat16 still arrives."""
    rng = np.random.default_rng(3)
    start = rng.normal(size=N).astype(np.float32)
    drift = rng.normal(size=N).astype(np.float32) * np.float32(1e-3)
    async with job(spec_of(dtype="bfloat16")) as (server, clients):
        await begin(clients, start)
        vectors = [start.copy(), start.copy()]
        for number in range(30):
            results = await asyncio.gather(
                push(clients[0], number, vectors[0] + drift), push(clients[1], number, vectors[1] + 3 * drift)
            )
            vectors = [result.vector.copy() for result in results]
        np.testing.assert_array_equal(vectors[0], vectors[1])
        np.testing.assert_array_equal(vectors[0], server.shared.vector)
        expected = start + 30 * 2 * drift
        # Without feedback the error would grow with every exchange; with it, about one rounding is owed.
        assert np.abs(vectors[0] - expected).max() < 3 * np.abs(2 * drift).max() * 2**-8 * 3


async def test_bfloat16_frames_are_half_as_long() -> None:
    async with job(spec_of()) as (wide, _), job(spec_of(dtype="bfloat16")) as (narrow, _):
        assert wide.layout.push_bytes - narrow.layout.push_bytes == 2 * N


async def test_a_bfloat16_trainer_that_missed_an_exchange_takes_the_whole_vector_again() -> None:
    async with job(spec_of(dtype="bfloat16", deadline_s=0.05)) as (server, clients):
        await begin(clients, np.zeros(N, np.float32))
        await push(clients[0], 0, 1.0)
        await push(clients[0], 1, 2.0)
        late = await push(clients[1], 0, 1.0)
        assert late.exchange == 1
        np.testing.assert_array_equal(late.vector, server.shared.vector)


async def test_after_the_deadline_those_present_go_on_and_the_late_one_is_told_where_they_are() -> None:
    async with job(spec_of(deadline_s=0.05)) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        alone = await push(clients[0], 0, 1.0)
        assert (alone.vector == 1.0).all()
        assert alone.sums[0] == 1.0
        late = await push(clients[1], 0, 77.0)
        assert (late.exchange, late.vector[0]) == (0, 1.0)
        both = await asyncio.gather(push(clients[0], 1, 2.0), push(clients[1], 1, 4.0))
        assert both[0].vector[0] == both[1].vector[0] == 3.0


async def test_a_clipped_change_moves_the_vector_by_the_bound_only() -> None:
    async with job(spec_of(clip_norm=1.0)) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        merged, _ = await asyncio.gather(push(clients[0], 0, 1000.0), push(clients[1], 0, 0.0))
        np.testing.assert_allclose(np.linalg.norm(merged.vector), 0.5, rtol=1e-4)


async def test_the_median_holds_against_one_faulty_trainer_of_three() -> None:
    async with job(spec_of(trainers=3, merge="median")) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        results = await asyncio.gather(
            *(push(c, 0, v) for c, v in zip(clients, [1.0, 1e9, 2.0], strict=True))
        )
        assert (results[0].vector == 2.0).all()


async def test_async_trainers_do_not_wait_for_one_another() -> None:
    async with job(spec_of(mode="async")) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        first = await push(clients[0], 0, 2.0)
        assert (first.vector == 1.0).all()
        second = await push(clients[0], 1, 3.0)
        assert (second.vector == 2.0).all()
        other = await push(clients[1], 0, 4.0)
        assert (other.vector == 4.0).all()
        assert other.sums[0] == 2.0


async def test_an_async_change_older_than_the_bound_is_set_aside() -> None:
    async with job(spec_of(mode="async", staleness=1)) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        for number in range(3):
            await push(clients[0], number, float(number + 1))
        stale = await push(clients[1], 0, 100.0)
        assert stale.set_aside
        assert (stale.vector == 2.125).all()
        fresh = await push(clients[1], 1, 3.125)
        assert not fresh.set_aside
        assert (fresh.vector == 2.625).all()


async def test_async_trials_wait_for_all_trainers_before_the_next() -> None:
    async with job(spec_of(mode="async")) as (server, clients):
        await begin(clients, np.zeros(N, np.float32))
        await push(clients[0], 0, 1.0)
        publishing = asyncio.create_task(clients[0].publish(1, b"next", np.full(N, 5.0, np.float32)))
        await push(clients[1], 0, 1.0)
        await asyncio.wait_for(publishing, 5)
        assert server.trial == 1
        start = await clients[1].start(1)
        assert (start.vector == 5.0).all()
        assert start.exchange == 1


async def test_trainers_agree_on_the_highest_rung_that_any_proposes() -> None:
    async with job(spec_of()) as (server, clients):
        await begin(clients, np.zeros(N, np.float32))
        one, other = await asyncio.gather(clients[0].agree(0, 4), clients[1].agree(0, 9))
        assert one == other == Agreed(9, raised=False)
        assert await clients[0].agree(0, 20) == Agreed(9, raised=False)
        assert server.slots == Agreement(trial=0, rung=9)


async def test_a_rung_is_raised_once_and_never_lowered() -> None:
    async with job(spec_of()) as (_, clients):
        seen = []
        for trial, proposals in enumerate([(4, 5), (2, 5), (5, 8), (5, 30)]):
            await clients[0].publish(trial, b"", np.zeros(N, np.float32))
            both = zip(clients, proposals, strict=True)
            agreed = await asyncio.gather(*(client.agree(trial, rung) for client, rung in both))
            assert agreed[0] == agreed[1]
            seen.append(agreed[0])
        assert seen == [Agreed(5, False), Agreed(5, False), Agreed(8, True), Agreed(8, True)]


async def test_with_a_deadline_a_trainer_that_proposes_nothing_is_not_waited_for() -> None:
    async with job(spec_of(deadline_s=0.1)) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        assert await clients[0].agree(0, 3) == Agreed(3, raised=False)


async def test_a_change_that_is_not_ready_counts_as_set_aside() -> None:
    async with job(spec_of(mode="sync")) as (_, clients):
        await begin(clients, np.zeros(N, np.float32))
        one, other = await asyncio.gather(
            clients[0].exchange(0, None, np.zeros(64)), push(clients[1], 0, 1.0)
        )
        assert (one.set_aside, other.set_aside, one.excluded) == (True, False, 1)
        assert (one.vector == other.vector).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"merge": "trimmed-mean"},
        {"trim": 1},
        {"merge": "trimmed-mean", "trim": 1},
        {"mode": "async", "dtype": "bfloat16"},
        {"mode": "async", "merge": "median"},
        {"unknown": 1},
    ],
    ids=["no trim", "trim without its rule", "trim of all", "async bfloat16", "async median", "unknown"],
)
def test_terms_that_make_no_sense_together_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec_of(**fields)
