"""Sharded exchanges give what one server gives, over real servers."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.ps import checkpoint
from chiron.ps.client import Merged, ParameterClient
from chiron.ps.server import ParameterServer
from chiron.ps.sharding import ShardedClient, shard_server
from chiron.wire.exchange import ExchangeSpec, shard_slice, shard_spec
from tests.ps.loopback import PLAN_BYTES, job, serve, session_of

N = 50_001
Client = ShardedClient | ParameterClient


@asynccontextmanager
async def sharded(spec: ExchangeSpec, shards: int) -> AsyncIterator[list[ShardedClient]]:
    """One client a trainer, each speaking to all shards."""
    async with AsyncExitStack() as stack:
        servers = [shard_server(spec, PLAN_BYTES, index, shards) for index in range(shards)]
        urls = [await stack.enter_async_context(serve(server)) for server in servers]
        clients = []
        for trainer in range(spec.trainers):
            sessions = [await stack.enter_async_context(session_of(trainer)) for _ in urls]
            clients.append(ShardedClient(sessions, urls, spec, PLAN_BYTES, patience_s=60))
        yield clients


async def rounds(clients: Sequence[Client], spoilt: int | None = None) -> list[Merged]:
    """Three exchanges of random changes; in the second, element `spoilt` of trainer 0 is not a number."""
    start = np.random.default_rng(0).normal(size=N).astype(np.float32)
    await clients[0].publish(0, b"plan", start)
    starts = await asyncio.gather(*(client.start(0) for client in clients))
    assert all(begun.plan == b"plan" and begun.exchange == 0 for begun in starts)
    results = []
    for number in range(3):
        pushes: list[Awaitable[Merged]] = []
        for trainer, client in enumerate(clients):
            vector = np.random.default_rng([number, trainer]).normal(size=N).astype(np.float32)
            if spoilt is not None and (number, trainer) == (1, 0):
                vector[spoilt] = np.nan
            pushes.append(client.exchange(number, vector, np.full(64, trainer + 1.0)))
        _, merged = await asyncio.gather(*pushes)
        results.append(dataclasses.replace(merged, vector=merged.vector.copy()))
    return results


@pytest.mark.parametrize(
    "fields",
    [{}, {"outer_momentum": 0.9}, {"clip_norm": 10.0}, {"dtype": "bfloat16"}],
    ids=["plain", "momentum", "clipped", "bfloat16"],
)
@pytest.mark.parametrize("spoilt", [None, N - 1])
async def test_shards_merge_as_one_server_does(fields: dict[str, object], spoilt: int | None) -> None:
    spec = ExchangeSpec.model_validate({"parameters": N, "trainers": 2, "exchanges": 3, **fields})
    async with job(spec) as (_, clients):
        whole = await rounds(clients, spoilt)
    async with sharded(spec, 3) as sharded_clients:
        parts = await rounds(sharded_clients, spoilt)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one.sums, other.sums)
        assert (one.exchange, one.excluded) == (other.exchange, other.excluded)
    assert whole[1].excluded == (0 if spoilt is None else 1)


@given(st.integers(1, 10_000), st.data())
def test_slices_cover_the_vector_once_and_evenly(parameters: int, data: st.DataObject) -> None:
    shards = data.draw(st.integers(1, min(parameters, 64)))
    parts = [shard_slice(parameters, index, shards) for index in range(shards)]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == parameters
    lengths = {part.stop - part.start for part in parts}
    assert max(lengths) - min(lengths) <= 1


async def test_a_shard_can_be_checkpointed_without_plan_and_sums() -> None:
    spec = ExchangeSpec(parameters=10, trainers=2, exchanges=3)
    saved = checkpoint.dump(shard_server(spec, PLAN_BYTES, 1, 2))
    restored = ParameterServer(shard_spec(spec, 1, 2), 0, sums=0)
    checkpoint.load(restored, saved)
    assert restored.trial == -1
