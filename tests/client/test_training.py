"""Training through the library: what the command does for its users, a program gets too."""

import asyncio
from contextlib import aclosing, closing

import numpy as np
import pytest

from chiron import (
    Client,
    Created,
    EvidenceRejected,
    Finished,
    GatewayUnreachable,
    Granted,
    JobRequest,
    JobState,
    OutcomeStatus,
    PredictionPolicy,
    Progressed,
    Role,
    Verified,
)
from tests.support.owners_world import World


async def request(world: World) -> JobRequest:
    """A job over uploaded digits."""
    async with world.client() as client:
        return world.request(await client.upload_dataset(world.encrypt().bundle))


async def states(world: World) -> list[JobState]:
    """What became of all jobs."""
    async with world.client() as client:
        return [job.state for job in await client.jobs()]


async def test_training_ends_with_outcome_reports_and_evidence(world: World) -> None:
    told: list[tuple[int, int]] = []
    async with world.client() as client:
        finished = await client.train(
            await request(world),
            prediction=PredictionPolicy(top_k=1),
            advance=lambda done, total: told.append((done, total)),
        )
    assert finished.outcome.status is OutcomeStatus.TRAINED
    assert [report.exchange for report in finished.reports] == [0, 1, 2]
    assert finished.evidence.claims.job == finished.job.spec.job
    assert told[-1] == (3, 3)
    assert world.enclaves.grants[finished.job.spec.job].prediction.top_k == 1


async def test_the_stages_come_in_order(world: World) -> None:
    async with world.client() as client, aclosing(client.training(await request(world))) as stages:
        seen = [type(stage) async for stage in stages]
    assert seen[:3] == [Created, Verified, Granted]
    assert set(seen[3:-1]) == {Progressed}
    assert seen[-1] is Finished


async def test_a_job_whose_evidence_is_rejected_is_cancelled(world: World) -> None:
    world.faults.measurement = bytes(32)
    async with world.client() as client:
        with pytest.raises(EvidenceRejected):
            await client.train(await request(world))
    assert world.enclaves.grants == {}
    assert await states(world) == [JobState.CANCELLED]


async def test_who_leaves_before_the_grant_refuses_it(world: World) -> None:
    async with world.client() as client, aclosing(client.training(await request(world))) as stages:
        async for stage in stages:
            if isinstance(stage, Verified):
                break
    assert world.enclaves.grants == {}
    assert await states(world) == [JobState.CANCELLED]


async def test_an_interrupted_program_leaves_no_job_that_waits(world: World) -> None:
    created = asyncio.Event()

    async def program() -> None:
        async with world.client() as client, aclosing(client.training(asked)) as stages:
            async for stage in stages:
                assert not isinstance(stage, Granted)
                created.set()
                await asyncio.sleep(0)

    asked = await request(world)
    running = asyncio.create_task(program())
    await created.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await states(world) == [JobState.CANCELLED]


async def test_who_leaves_after_the_grant_leaves_the_job_to_go_on(world: World) -> None:
    async with world.client() as client:
        async with aclosing(client.training(await request(world))) as stages:
            async for stage in stages:
                if isinstance(stage, Granted):
                    break
        (job,) = await client.jobs()
        assert (await client.wait(job)).state is JobState.SUCCEEDED


async def test_whoever_is_there_after_a_restart_is_verified_before_it_gets_the_grant(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.client() as client:
        relayed = client.gateway.relay
        lost = [True, True]

        async def relay(path: str, sealed: bytes) -> bytes:
            if path.endswith("/grant") and lost:
                lost.pop()
                raise GatewayUnreachable("http://gateway")
            return await relayed(path, sealed)

        monkeypatch.setattr(client.gateway, "relay", relay)
        async with aclosing(client.training(await request(world))) as stages:
            seen = [stage async for stage in stages]
    verified = [stage for stage in seen if isinstance(stage, Verified)]
    assert [stage.again for stage in verified] == [False, True, True]
    nonces = {stage.evidence.claims.nonce for stage in verified}
    assert len(nonces) == 3
    assert isinstance(seen[-1], Finished)


async def test_the_waiting_client_trains_too(world: World) -> None:
    asked = await request(world)

    def work() -> tuple[Finished, list[JobState]]:
        with Client(world.running.url, world.owner_key, policy=world.policy, store=world.store) as client:
            with closing(client.training(asked)) as stages:
                while not isinstance(next(stages), Verified):
                    pass
            finished = client.train(asked)
            return finished, [job.state for job in client.jobs()]

    finished, ended = await asyncio.to_thread(work)
    assert finished.outcome.status is OutcomeStatus.TRAINED
    assert sorted(ended) == [JobState.CANCELLED, JobState.SUCCEEDED]


async def test_the_waiting_client_asks_one_predictor_several_times(world: World) -> None:
    asked = await request(world)

    def work() -> list[int]:
        with Client(world.running.url, world.owner_key, policy=world.policy, store=world.store) as client:
            predictor = client.predictor(client.train(asked).job)
            assert predictor.verified.claims.role is Role.PREDICTOR
            return [len(predictor.predict(np.zeros((rows, 1, 8, 8), np.float32))) for rows in (1, 2)]

    assert await asyncio.to_thread(work) == [1, 2]
