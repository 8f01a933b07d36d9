"""A server that crashed goes on from its checkpoint; one that was rolled back is found out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.ps import checkpoint
from chiron.ps.client import ParameterClient
from chiron.ps.errors import CheckpointInvalid, RolledBack
from chiron.ps.server import ParameterServer
from chiron.wire.exchange import ExchangeSpec
from tests.ps.loopback import PLAN_BYTES, serve, session_of

N = 50_000


class Restartable:
    """A server that can be replaced by one made from a checkpoint, on another port."""

    def __init__(self, spec: ExchangeSpec) -> None:
        self.spec = spec
        self.saved: list[bytes] = []
        self.server = ParameterServer(spec, PLAN_BYTES, persist=self._persist)
        self.url = ""
        self._stack = AsyncExitStack()

    async def _persist(self) -> None:
        self.saved.append(checkpoint.dump(self.server))

    async def start(self) -> None:
        """Answer at a new address."""
        self.url = await self._stack.enter_async_context(serve(self.server))

    async def crash(self, saved: bytes | None = None) -> None:
        """Go away without a word, and come back from `saved`, the latest checkpoint by default."""
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        self.server = ParameterServer(self.spec, PLAN_BYTES, persist=self._persist)
        checkpoint.load(self.server, saved or self.saved[-1])
        await self.start()

    async def stop(self) -> None:
        """For good."""
        await self._stack.aclose()


@asynccontextmanager
async def restartable(spec: ExchangeSpec) -> AsyncIterator[tuple[Restartable, list[ParameterClient]]]:
    """A restartable server and its clients, which look for it again when it is gone."""
    world = Restartable(spec)
    await world.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(world.stop)
        clients = []
        for trainer in range(spec.trainers):
            session = await stack.enter_async_context(session_of(trainer))

            async def reconnect(
                session: aiohttp.ClientSession = session,
            ) -> tuple[aiohttp.ClientSession, str]:
                return session, world.url

            client = ParameterClient(session, world.url, spec, PLAN_BYTES, patience_s=60, reconnect=reconnect)
            clients.append(client)
        await clients[0].publish(0, b"the plan", np.zeros(N, np.float32))
        await asyncio.gather(*(client.start(0) for client in clients))
        yield world, clients


async def exchange(clients: list[ParameterClient], number: int, value: float) -> list[float]:
    """All push a constant vector; the first element of what each gets."""
    vector = np.full(N, value, np.float32)
    merged = await asyncio.gather(*(client.exchange(number, vector, np.ones(64)) for client in clients))
    assert all((result.vector == result.vector[0]).all() for result in merged)
    return [float(result.vector[0]) for result in merged]


VARIANTS = [{}, {"outer_momentum": 0.5}, {"dtype": "bfloat16", "outer_momentum": 0.5}]


@pytest.mark.parametrize("fields", VARIANTS, ids=["plain", "momentum", "bfloat16"])
async def test_a_job_whose_server_crashes_between_any_exchanges_ends_as_if_it_had_not(
    fields: dict[str, object],
) -> None:
    spec = ExchangeSpec.model_validate({"parameters": N, "trainers": 2, "exchanges": 4, **fields})
    results = []
    for crashing in (False, True):
        async with restartable(spec) as (world, clients):
            got = []
            for number in range(4):
                got.append(await exchange(clients, number, 1.0 + number * 0.125))
                if crashing:
                    await world.crash()
            results.append(got)
    assert results[0] == results[1]


async def test_a_crash_while_trainers_wait_loses_nothing() -> None:
    spec = ExchangeSpec(parameters=N, trainers=2, exchanges=4)
    async with restartable(spec) as (world, clients):
        await exchange(clients, 0, 1.0)
        waiting = asyncio.create_task(exchange(clients[1:], 1, 4.0))
        await asyncio.sleep(0)
        await world.crash()
        assert await exchange(clients[:1], 1, 2.0) == await waiting == [3.0]


async def test_a_crash_after_publication_keeps_the_plan_and_the_initial_vector() -> None:
    spec = ExchangeSpec(parameters=N, trainers=2, exchanges=4)
    async with restartable(spec) as (world, clients):
        await exchange(clients, 0, 1.0)
        await clients[0].publish(1, b"next", np.full(N, 9.0, np.float32))
        await world.crash()
        start = await clients[1].start(1)
        assert (start.plan, start.exchange, start.vector[0]) == (b"next", 1, 9.0)


async def test_a_server_restored_from_an_old_checkpoint_is_found_out() -> None:
    spec = ExchangeSpec(parameters=N, trainers=2, exchanges=4)
    async with restartable(spec) as (world, clients):
        await exchange(clients, 0, 1.0)
        old = world.saved[-1]
        await exchange(clients, 1, 2.0)
        await world.crash(old)
        with pytest.raises(RolledBack):
            await exchange(clients, 2, 3.0)
        assert world.server.rolled_back.is_set()


async def test_async_trainers_go_on_after_a_crash() -> None:
    spec = ExchangeSpec(parameters=N, trainers=2, exchanges=4, mode="async")
    async with restartable(spec) as (world, clients):
        await exchange(clients[:1], 0, 2.0)
        await world.crash()
        assert await exchange(clients[1:], 0, 4.0) == [3.0]
        assert await exchange(clients[:1], 1, 1.0) == [3.0]
        again = await clients[0].exchange(0, np.zeros(N, np.float32), np.zeros(64))
        assert (again.vector[0], again.exchange) == (3.0, 1)
        await world.crash()
        again = await clients[0].exchange(0, np.zeros(N, np.float32), np.zeros(64))
        assert (again.vector[0], again.exchange) == (3.0, 1)


async def test_checkpoints_of_a_job_have_one_size_whatever_is_in_them() -> None:
    spec = ExchangeSpec(parameters=N, trainers=2, exchanges=4)
    async with restartable(spec) as (world, clients):
        await exchange(clients, 0, float("nan"))
        await exchange(clients, 1, 2.0)
        assert len(world.saved) == 3
        assert len({len(saved) for saved in world.saved}) == 1


@given(st.data())
async def test_what_is_no_checkpoint_of_this_spec_is_refused(data: st.DataObject) -> None:
    spec = ExchangeSpec(parameters=4, trainers=2, exchanges=4)
    saved = checkpoint.dump(ParameterServer(spec, 10))
    damaged = data.draw(
        st.one_of(
            st.binary(max_size=100),
            st.integers(0, len(saved) - 1).map(lambda end: saved[:end]),
            st.just(checkpoint.dump(ParameterServer(spec.model_copy(update={"parameters": 5}), 10))),
            st.just(checkpoint.dump(ParameterServer(spec, 11))),
        )
    )
    with pytest.raises(CheckpointInvalid):
        checkpoint.load(ParameterServer(spec, 10), damaged)
