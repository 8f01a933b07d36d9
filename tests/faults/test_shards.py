"""Faults of a sharded job's real processes: any of its servers may die, and none may be rolled back."""

import asyncio
import signal

from chiron.api.launchers.launcher import LaunchOrder
from chiron.wire.attestation import Role
from chiron.wire.jobs import JobState, PublicFailure
from tests.faults.clear import expect_no_secret_in_the_clear
from tests.faults.test_faults import expect_whole
from tests.support.faulty_host import FaultyHost

SHARDS = {"terms": {"shards": 2}}


async def test_a_shard_a_trainer_and_the_parameter_server_are_replaced_and_the_job_ends_whole(
    host: FaultyHost,
) -> None:
    job = await host.begin(**SHARDS)
    await host.reach(job, 4)
    host.launcher.latest(Role.SHARD, 1).signal(signal.SIGKILL)
    await host.reach(job, 9)
    # The shard lives on, and must let in a trainer that the next parameter server has enrolled.
    host.launcher.latest(Role.PARAMETER_SERVER).signal(signal.SIGKILL)
    host.launcher.latest(Role.TRAINER, 1).signal(signal.SIGKILL)
    await expect_whole(host, job)
    assert len(host.launcher.enclaves) == 4 + 3
    assert [len(host.objects(job, name)) for name in ("model", "checkpoint-parameter-server-1")] == [1, 1]
    expect_no_secret_in_the_clear(host.state.parent, host.dataset.record.key)


async def test_a_shard_that_was_rolled_back_ends_the_job_as_input_corrupted(host: FaultyHost) -> None:
    job = await host.begin(trainers=1, **SHARDS)
    await host.reach(job, 3)
    old = host.objects(job, "checkpoint-parameter-server-1")[0].read_bytes()
    await host.reach(job, 6)

    def roll_back(order: LaunchOrder) -> None:
        for path in host.objects(job, "checkpoint-parameter-server-1"):
            path.write_bytes(old)

    host.launcher.before = roll_back
    host.launcher.latest(Role.SHARD, 1).signal(signal.SIGKILL)
    async with asyncio.timeout(120):
        ended = await host.ended(job)
    assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.INPUT_CORRUPTED), host.logs()
