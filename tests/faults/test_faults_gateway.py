"""The gateway itself is killed, and stopped: what it ran goes on when it is started again."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from chiron import AsyncClient, Job, JobRequest, OwnerStore, policy_of
from chiron.client.datasets import Encrypted
from chiron.runtime.roles.sealed_model import open_model
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.jobs import JobState
from chiron.wire.labels import MODEL
from chiron.wire.reports import TrainingReport
from tests.faults.clear import expect_no_secret_in_the_clear
from tests.support.builders import orderly
from tests.support.datasets import digits
from tests.support.deployment import keyholding, publish, upload
from tests.support.tee import DirectPlatform, open_tee

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180
EXCHANGES = 20
PACED = {"period_s": 0.3}
"""So that a job lasts long enough to be killed in the middle; no bit of its model depends on it."""


@dataclass
class GatewayProcess:
    """`chiron serve` on one port and state directory, killed and started again."""

    image: Path
    state: Path
    port: int
    process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, str]:
        """Start it; what it tells once it answers."""
        command = [sys.executable, "-m", "chiron", "serve", "--json", "--port", str(self.port)]
        with (self.state.parent / "gateway.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.state), "--image", str(self.image)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log()
        return dict(json.loads(line))

    def end(self, number: signal.Signals) -> None:
        """Signal it and wait until it and all its enclaves are gone."""
        assert self.process is not None
        family = _descendants(self.process.pid)
        assert family
        self.process.send_signal(number)
        self.process.wait(60)
        for process in family:
            _wait_gone(process)

    async def restarted(self, number: signal.Signals) -> None:
        """`end`, then `start`."""
        await asyncio.to_thread(self.end, number)
        await asyncio.to_thread(self.start)

    def log(self) -> str:
        """What it said last."""
        return (self.state.parent / "gateway.log").read_text()[-3000:]


def _descendants(process: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child, *_descendants(child)}
    return found


def _wait_gone(process: int) -> None:
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        assert poller.poll(30_000), f"process {process} outlived its gateway"
    finally:
        os.close(descriptor)


@dataclass
class Owner:
    """An owner of that gateway."""

    client: AsyncClient
    dataset: Encrypted
    builder: str

    async def create(self, **request: object) -> Job:
        """A job without its grant."""
        asked = {
            "dataset_id": self.dataset.bundle.manifest.dataset_id,
            "builder_sha256": self.builder,
            "trainers": 1,
            "exchanges": EXCHANGES,
        }
        return await self.client.create_job(JobRequest.model_validate(asked | request))

    async def grant(self, job: Job) -> None:
        """Verify and grant."""
        await self.client.send_grant(await self.client.verify_job(job))


@asynccontextmanager
async def _owner(told: dict[str, str], directory: Path) -> AsyncIterator[Owner]:
    store = OwnerStore(directory / "owner")
    policy = policy_of([told["measurement"]], software_root=Path(told["software_root"]))
    async with (
        AsyncClient(told["url"], told["owner_key"], policy=policy, store=store) as owner,
        AsyncClient(told["url"], told["operator_key"]) as operator,
    ):
        info = await publish(operator, orderly(epochs=3, ema_decay=0.9))
        dataset = await upload(owner, digits(), directory / "bundle")
        yield Owner(owner, dataset, info.sha256)


async def _waits_for_its_owner(client: AsyncClient, job: Job) -> None:
    """Nothing goes on without her."""
    async with asyncio.timeout(30), aclosing(client.watch(job)) as states:
        async for stands in states:
            if stands.awaiting_owner:
                break
    await asyncio.sleep(1)
    assert await client.job(job) == stands


async def _followed(client: AsyncClient, job: Job, marks: dict[int, asyncio.Event]) -> list[Job]:
    """Every state of the job that its owner saw, who follows it through the gateway's restarts."""
    seen: list[Job] = []
    async for now in client.watch(job):
        seen.append(now)
        for exchanges, mark in marks.items():
            if now.exchanges_done >= exchanges:
                mark.set()
    return seen


def _model(state: Path, job: Job, measurement: str, share: bytes) -> bytes:
    """The job's model in the clear, with the keys of the development TEE and the owner's share."""
    platform = DirectPlatform(open_tee(state / "tee"), bytes.fromhex(measurement))
    (path,) = (state / "blobs" / "jobs" / job.spec.job / "model").iterdir()
    return open_model(job.spec, path.read_bytes(), Sealer(platform, MODEL, share))[1]


def _of_training(report: TrainingReport) -> TrainingReport:
    """Without what was measured: slots' lengths, and how often they did not do."""
    return report.model_copy(update={"slot_s": None, "late_slots": 0})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_killed_gateway_loses_no_job(image: Path) -> None:
    with TemporaryDirectory(prefix="chiron-") as name:
        directory = Path(name)
        gateway = GatewayProcess(image, directory / "state", _free_port())
        told = await asyncio.to_thread(gateway.start)
        try:
            async with asyncio.timeout(PATIENCE_S), _owner(told, directory) as owner:
                await _through_kills(gateway, owner, told["measurement"])
        except BaseException:
            print(gateway.log())
            raise
        finally:
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.process.terminate()
                gateway.process.wait(60)


async def _through_kills(gateway: GatewayProcess, owner: Owner, measurement: str) -> None:
    client = owner.client
    undisturbed = await owner.create()
    await owner.grant(undisturbed)
    await client.wait(undisturbed)

    rows = np.zeros((2, 8, 8), np.uint8)
    before = await client.predict(undisturbed, rows)
    waiting, job = await owner.create(exchanges=1), await owner.create(terms=PACED)
    await owner.grant(job)
    reached, further = asyncio.Event(), asyncio.Event()
    following = asyncio.create_task(_followed(client, job, {4: reached, 10: further}))
    await reached.wait()
    await gateway.restarted(signal.SIGKILL)
    await _waits_for_its_owner(client, job)
    async with keyholding(client):
        await further.wait()
        assert (await client.job(job)).state is JobState.TRAINING
        await gateway.restarted(signal.SIGTERM)
        # A job that awaited its grant waits again; its enclave is another, and is verified anew.
        await owner.grant(waiting)
        await client.wait(waiting)
        seen = await following
    # The predictor is launched again with the gateway, and answers as before.
    after = await client.predict(undisturbed, rows)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert (seen[-1].state, seen[-1].failure) == (JobState.SUCCEEDED, None)
    done = [now.exchanges_done for now in seen]
    assert done == sorted(done)
    assert max(done) == EXCHANGES
    assert [_of_training(report) for report in await client.reports(job)] == [
        _of_training(report) for report in await client.reports(undisturbed)
    ]
    model, same = (
        _model(gateway.state, one, measurement, client.store.job(one.spec.job).share)
        for one in (job, undisturbed)
    )
    assert model == same
    expect_no_secret_in_the_clear(gateway.state, owner.dataset.record.key, model)
