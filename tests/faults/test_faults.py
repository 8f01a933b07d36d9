"""Faults of real processes: a job goes on from its last checkpoint, or ends with a fixed public code."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from chiron import GatewayError
from chiron.api.errors import ObjectUnknown
from chiron.api.jobs.fleet import LaunchedEnclave
from chiron.api.jobs.objects import JobObjects
from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.settings import Timing
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Ready
from chiron.wire.jobs import Job, JobState, PublicFailure
from chiron.wire.reports import OutcomeStatus
from tests.support.breaker import Breaker
from tests.support.builders import orderly
from tests.support.faulty_host import EXCHANGES, FaultyHost, faulty_host

SERVER, TRAINER = Role.PARAMETER_SERVER, Role.TRAINER


async def expect_whole(host: FaultyHost, job: Job) -> None:
    """The job succeeded, its model is good and no report is missing."""
    ended = await host.ended(job)
    assert (ended.state, ended.failure) == (JobState.SUCCEEDED, None), host.logs()
    assert ended.exchanges_done == EXCHANGES
    outcome = await host.owner.outcome(job)
    assert outcome.status is OutcomeStatus.TRAINED, outcome
    assert outcome.metrics is not None
    assert outcome.metrics.validation_accuracy is not None
    assert outcome.metrics.validation_accuracy > 0.8
    reports = await host.owner.reports(job)
    assert [report.exchange for report in reports] == list(range(EXCHANGES))


async def test_killed_enclaves_are_replaced_and_the_job_ends_as_if_nothing_had_been(
    host: FaultyHost,
) -> None:
    job = await host.begin()
    for exchanges, role, index in ((4, TRAINER, 1), (9, SERVER, 0), (14, TRAINER, 0)):
        await host.reach(job, exchanges)
        host.launcher.latest(role, index).signal(signal.SIGKILL)
    await expect_whole(host, job)
    assert len(host.launcher.enclaves) == 6
    await expect_predictor_to_be_replaced(host, job)


async def expect_predictor_to_be_replaced(host: FaultyHost, job: Job) -> None:
    """A predictor that is killed is launched again at the next query, and answers the same."""
    rows = np.zeros((2, 8, 8), np.uint8)
    before = await host.owner.predict(job, rows)
    predictor = host.launcher.latest(Role.PREDICTOR)
    predictor.signal(signal.SIGKILL)
    await predictor.wait()
    async with asyncio.timeout(30):
        after = await host.owner.predict(job, rows)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert host.launcher.latest(Role.PREDICTOR) is not predictor


async def test_a_checkpoint_that_was_altered_opens_to_nobody_and_its_owner_is_told(host: FaultyHost) -> None:
    job = await host.begin(trainers=1)
    await host.reach(job, 4)

    def alter(order: LaunchOrder) -> None:
        for path in host.objects(job, "checkpoint-parameter-server"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

    host.launcher.before = alter
    host.launcher.latest(SERVER).signal(signal.SIGKILL)
    async with asyncio.timeout(30), aclosing(host.owner.watch(job)) as states:
        async for seen in states:
            if seen.awaiting_owner:
                break
    verified = await host.owner.verify_job(job)
    with pytest.raises(GatewayError) as refused:
        await host.owner.send_grant_again(verified)
    assert refused.value.code == "checkpoint-invalid"
    assert (await host.owner.job(job)).awaiting_owner
    await host.owner.cancel(job)


async def test_a_checkpoint_that_was_rolled_back_ends_the_job_as_input_corrupted(host: FaultyHost) -> None:
    job = await host.begin(trainers=1)
    await host.reach(job, 3)
    old = host.objects(job, "checkpoint-parameter-server")[0].read_bytes()
    await host.reach(job, 8)

    def roll_back(order: LaunchOrder) -> None:
        for path in host.objects(job, "checkpoint-parameter-server"):
            path.write_bytes(old)

    host.launcher.before = roll_back
    host.launcher.latest(SERVER).signal(signal.SIGKILL)
    ended = await host.ended(job)
    assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.INPUT_CORRUPTED), host.logs()


async def test_a_checkpoint_that_was_withheld_ends_the_job_as_input_corrupted(
    host: FaultyHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it there is no grant, and a job cannot go back to wait for one."""
    job = await host.begin(trainers=1)
    await host.reach(job, 3)

    async def withheld(*_: object) -> NoReturn:
        raise ObjectUnknown("the job has no object of this name")

    monkeypatch.setattr(JobObjects, "get", withheld)
    host.launcher.latest(SERVER).signal(signal.SIGKILL)
    ended = await host.ended(job)
    assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.INPUT_CORRUPTED), host.logs()


async def test_a_checkpoint_that_the_host_lost_ends_the_job_with_a_fixed_code(host: FaultyHost) -> None:
    job = await host.begin(trainers=1)
    await host.reach(job, 3)

    def lose(order: LaunchOrder) -> None:
        for path in host.objects(job, "checkpoint-parameter-server"):
            path.unlink()

    host.launcher.before = lose
    host.launcher.latest(SERVER).signal(signal.SIGKILL)
    ended = await host.ended(job)
    assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.INTERNAL), host.logs()


async def test_a_stalled_trainer_holds_the_others_only_as_long_as_it_stalls(host: FaultyHost) -> None:
    job = await host.begin()
    await host.reach(job, 4)
    stalled = host.launcher.latest(TRAINER, 1)
    stalled.signal(signal.SIGSTOP)
    await asyncio.sleep(1)
    before = (await host.owner.job(job)).exchanges_done
    await asyncio.sleep(0.3)
    assert (await host.owner.job(job)).exchanges_done == before < EXCHANGES
    stalled.signal(signal.SIGCONT)
    await expect_whole(host, job)


async def test_a_trainer_that_stalls_for_ever_ends_the_job_at_its_deadline(directory: Path) -> None:
    timing = Timing(job_s=20, enclave_stop_s=0.5)
    async with faulty_host(directory, orderly(epochs=2), timing) as host:
        job = await host.begin()
        host.launcher.latest(TRAINER, 1).signal(signal.SIGSTOP)
        ended = await host.ended(job)
        assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.DEADLINE_EXCEEDED)
    assert all(enclave.ended for enclave in host.launcher.enclaves)


async def test_a_killed_trainers_half_open_connection_is_taken_over(
    host: FaultyHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host leads every connection through a relay that tells the server nothing of the death."""
    told = LaunchedEnclave.address
    async with AsyncExitStack() as relays:
        relayed: dict[str, asyncio.Task[str]] = {}

        async def by_relay(enclave: LaunchedEnclave, seconds: float) -> Ready | None:
            ready = await told(enclave, seconds)
            if ready is None or enclave.role is not SERVER or ready.address is None:
                return ready
            if ready.address not in relayed:
                breaker = Breaker(int(ready.address.rsplit(":", 1)[1]))
                listening = relays.enter_async_context(breaker.listening())
                relayed[ready.address] = asyncio.ensure_future(listening)
            address = (await relayed[ready.address]).removeprefix("https://")
            return ready.model_copy(update={"address": address})

        monkeypatch.setattr(LaunchedEnclave, "address", by_relay)
        job = await host.begin()
        await host.reach(job, 4)
        host.launcher.latest(TRAINER, 1).signal(signal.SIGKILL)
        await expect_whole(host, job)
        assert len(relayed) == 1
        assert len(host.launcher.enclaves) == 4


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own, of this size."""
    place.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if not made or made.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


async def test_a_full_disk_ends_the_job_with_a_fixed_code(directory: Path) -> None:
    with small_disk(directory / "state" / "blobs" / "jobs", "400k"):
        async with faulty_host(directory, orderly(epochs=2)) as host:
            job = await host.begin(trainers=1)
            ended = await host.ended(job)
            assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.INTERNAL), host.logs()
