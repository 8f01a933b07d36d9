"""The operator's graph has taken the engine over: what that process has, and what it can do with it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiron.builder_kit.chiron_builder import (
    Graph,
    Request,
    batch_norm,
    cast,
    conv,
    dense,
    dropout,
    flatten,
    relu,
)
from chiron.ps.client import Merged
from chiron.runtime.engine import process
from chiron.runtime.engine.frames import Failure, Kind, Nothing, error_of
from chiron.runtime.engine.memory import LearnersMemory, anonymous_file
from chiron.runtime.engine.model import RemoteModel
from chiron.runtime.engine.process import NOTHING, EngineProcess
from chiron.runtime.engine.supply import Engines
from chiron.runtime.roles.plan import Plan, read_plan
from chiron.runtime.roles.trial_run import Supply, TrialRun
from chiron.runtime.training.errors import TrainingFailed
from chiron.wasm_sandbox.errors import GraphRefused
from chiron.wire.jobs import IDLE
from scripts.benchmarks.in_process import LocalEngines
from tests.support import jobs
from tests.support.engines import Fault, Way
from tests.support.jobs import Job
from tests.support.memory import holds

EXCHANGES = 3
RANDOM = np.random.default_rng(11)
IMAGES = RANDOM.integers(0, 17, (120, 1, 8, 8)).astype(np.uint8)


def image_job() -> Job:
    return jobs.make_job(IMAGES, np.arange(120) % 3, classes=3, rows=20, exchanges=EXCHANGES)


@pytest.fixture
def job() -> Job:
    return image_job()


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    supply = Engines()
    yield supply
    supply.end()


def plan(job: Job) -> Plan:
    """Everything that could make two runs differ: dropout, running statistics, augmentation, early stop."""
    graph = Graph(Request("classification", (1, 8, 8), "uint8", (), 3, 100_000))
    x = relu(batch_norm(conv(cast(graph.input), 8)))
    drawn = graph.plan(dense(dropout(flatten(x), 0.3), 3))
    recipe = {
        "epochs": 3,
        "batch_size": 24,
        "accumulation": 2,
        "ema_decay": 0.9,
        "early_stop": {"patience": 50},
        "augmentations": {"horizontal_flip": True, "mixup_alpha": 0.3},
        "optimizer": {"kind": "adamw", "learning_rate": 0.003},
    }
    return read_plan(job.spec, 0, drawn.graph, json.dumps(recipe).encode())


def merged(run: TrialRun, exchange: int) -> Merged:
    vector, sums = run.pushed()
    return Merged(vector.copy(), sums, exchange, excluded=0, set_aside=False)


async def whole(job: Job, engines: Supply, *, resumed_at: int | None = None) -> tuple[bytes, Any]:
    """The model and the last report of a run alone, taken up by another process before an exchange."""
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    start = run.pushed()[0].copy()
    await run.adopt(start)
    last = Merged(start, np.zeros(64), 0, excluded=0, set_aside=False)
    for exchange in range(EXCHANGES):
        if exchange == resumed_at:
            state, has_read = await run.state(), run.has_read
            run = TrialRun(job.spec, 0, 0, engines)
            await run.adopt(last.vector)
            await run.restore(plan(job), None, state)
            assert has_read
        await run.train(job.dataset(), exchange, EXCHANGES)
        last = merged(run, exchange)
        await run.take(exchange, last)
    assert run.failure is None
    return await run.export(), run.report


@pytest.mark.parametrize(
    ("shared", "resumed_at"),
    [(True, None), (True, 1), (False, 2)],
    ids=["shared memory", "resumed", "resumed, pipes alone"],
)
async def test_apart_or_not_a_run_gives_the_same_bits(
    job: Job, engines: Engines, shared: bool, resumed_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await whole(job, LocalEngines())
    if not shared:
        monkeypatch.delattr(os, "memfd_create")
    assert await whole(job, engines, resumed_at=resumed_at) == here


STAGES = [
    (Way.KILLED, Kind.OPEN), (Way.KILLED, Kind.ADMIT), (Way.KILLED, Kind.BEGIN), (Way.KILLED, Kind.ADOPT),
    (Way.KILLED, Kind.TRAIN), (Way.KILLED, Kind.ROWS), (Way.KILLED, Kind.FINISH), (Way.KILLED, Kind.REPORT),
    (Way.STOPPED, Kind.BEGIN), (Way.STOPPED, Kind.ROWS), (Way.STOPPED, Kind.REPORT),
    (Way.GARBAGE, Kind.ADMIT), (Way.GARBAGE, Kind.TRAIN), (Way.GARBAGE, Kind.FINISH),
]  # fmt: skip


@pytest.mark.parametrize(("way", "stage"), STAGES, ids=lambda value: value.name)
async def test_whatever_becomes_of_it_the_run_reads_on_and_pushes_what_it_adopted(
    way: Way, stage: Kind, job: Job, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(way, stage)
    fault.strike(monkeypatch)
    fetched: list[int] = []
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    adopted = np.full(job.spec.exchange.parameters, 0.25, np.float32)
    await run.adopt(adopted)
    for exchange in range(EXCHANGES):
        await run.train(job.dataset(fetched), exchange, EXCHANGES)
        vector, sums = run.pushed()
        await run.take(exchange, Merged(adopted, sums, exchange, excluded=0, set_aside=False))
    assert fault.struck == 1
    assert fault.left == []
    assert run.failure == "training-failed"
    assert fetched == list(range(job.spec.dataset.chunks))
    vector, sums = run.pushed()
    np.testing.assert_array_equal(vector, adopted)
    assert sums[IDLE] == 1
    assert await run.export() == b""
    assert await run.state() == b""


@pytest.mark.parametrize("stage", [Kind.STATE, Kind.RESTORE, Kind.EXPORT], ids=lambda kind: kind.name)
async def test_it_cannot_end_a_job_by_what_it_says_of_a_state_or_a_model(
    stage: Kind, job: Job, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fault(Way.KILLED, stage).strike(monkeypatch)
    run = TrialRun(job.spec, 0, 0, engines)
    vector = np.zeros(job.spec.exchange.parameters, np.float32)
    await run.adopt(vector)
    await run.begin(plan(job), from_start=False)
    state = await run.state()
    assert (state == b"") == (stage is Kind.STATE)
    if stage is Kind.RESTORE:
        await run.close()
        run = TrialRun(job.spec, 0, 0, engines)
        Fault(Way.KILLED, stage).strike(monkeypatch)
        await run.restore(plan(job), None, state)
    if stage is Kind.EXPORT:
        assert await run.export() == b""
    assert run.failure == "training-failed"


async def _at_work(job: Job, engines: Engines) -> tuple[TrialRun, Path]:
    """A run that has rows, and its engine's place in /proc."""
    run = TrialRun(job.spec, 0, 0, engines)
    await run.begin(plan(job))
    await run.adopt(run.pushed()[0].copy())
    await run.train(job.dataset(), 0, EXCHANGES)
    return run, await asyncio.to_thread(_engine)


READABLE = """
from chiron.runtime.engine import worker
from chiron.wasm_sandbox import confinement

confinement.forbid_dumps = lambda: True
worker.main()
"""


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines whose memory can be read from outside, which is refused to all but root otherwise."""
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-S", "-s", "-B", "-c", READABLE))


def _engine() -> Path:
    """Our one child that is a readable engine: other tests may have left programs of theirs."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (engine,) = (
        child for child in children if READABLE.encode() in Path("/proc", child, "cmdline").read_bytes()
    )
    return Path("/proc", engine)


@pytest.mark.usefixtures("readable")
async def test_it_holds_rows_and_no_key(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    key = os.urandom(32)
    monkeypatch.setattr(jobs, "KEY", key)
    _, engine = await _at_work(image_job(), engines)
    assert holds(int(engine.name), IMAGES[17].tobytes())  # The search sees what is there.
    assert holds(os.getpid(), key)
    assert not holds(int(engine.name), key)


@pytest.mark.usefixtures("readable")
async def test_it_has_no_descriptor_but_the_channel_and_no_environment(
    job: Job, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIRON_SECRET", "hunter2")
    inherited = os.open("/", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        _, engine = await _at_work(job, engines)
    finally:
        os.close(inherited)
    there = {path.name: str(path.readlink()) for path in engine.joinpath("fd").iterdir()}
    assert there.keys() == {"0", "1", "2", "3"}
    assert there["1"] == there["2"] == os.devnull
    assert {there["0"].split(":")[0], there["3"].split(":")[0]} == {"pipe"}
    variables = engine.joinpath("environ").read_bytes().decode().split("\0")
    names = {entry.split("=")[0] for entry in variables if entry}
    usual = {"MALLOC_ARENA_MAX", "PYTHONHASHSEED", "PYTHONPATH", "PYTHONUTF8"}
    assert names == usual | {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


ATTEMPTS = """
import ctypes, os, resource, signal, socket, threading
from chiron.runtime.engine import worker
from chiron.wasm_sandbox.errors import GraphRefused

libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

ATTEMPTS = {
    "reads a file": lambda: open("/etc/passwd").read(),
    "writes a file": lambda: open("/tmp/engine-was-here", "w"),
    "lists files": lambda: os.listdir("/"),
    "opens a socket": lambda: socket.socket(),
    "makes a pipe": os.pipe,
    "forks": os.fork,
    "starts a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "becomes a program": lambda: os.execv("/bin/true", ["true"]),
    "kills its parent": lambda: os.kill(parent, signal.SIGTERM),
    "traces its parent": lambda: call(101, 16, parent, 0, 0),
    "reads its parent's memory": lambda: call(310, parent, 0, 0, 0, 0, 0),
    "writes where the terminal was": lambda: os.write(4, b"x"),
    "raises its limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "starts a thread": lambda: threading.Thread(target=print).start(),
    "maps code": lambda: call(9, 0, 4096, 7, 0x22, -1, 0),
    "shrinks a descriptor": lambda: os.ftruncate(2, 0),
    "is dumped": lambda: call(157, 4, 1, 0, 0, 0),
}

def tried(attempt):
    try:
        attempt()
    except (OSError, ValueError, RuntimeError):
        return False
    return True

def admit(*_, **__):
    did = [name for name, attempt in ATTEMPTS.items() if tried(attempt)]
    raise GraphRefused("graph-invalid", "", ", ".join(did) or "nothing")

worker.admit = admit
worker.main()
"""


async def test_code_of_its_own_reaches_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-S", "-s", "-B", "-c", ATTEMPTS))
    engines = Engines()
    try:
        learner = await engines.learner(job.spec, index=0, trial=0)
        with pytest.raises(GraphRefused) as refused:
            await learner.admit(b"graph", b"{}")
    finally:
        engines.end()
    assert refused.value.detail == "nothing"


def test_the_memory_that_it_shares_keeps_its_size(job: Job) -> None:
    descriptor = anonymous_file()
    assert descriptor is not None
    try:
        LearnersMemory(job.spec, descriptor, sealing=True)
        for size in (0, 2**30):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "code", ["made-up", "sandbox-hung", "cache-unsafe", "training-failed", "graph-invalid"]
)
def test_its_words_are_ours(code: str) -> None:
    error = error_of(Failure(code=code, detail="4711"))
    assert error.code in {"training-failed", "graph-invalid"}
    assert "4711" not in str(error)


async def test_an_answer_that_is_larger_than_is_due_is_none(job: Job) -> None:
    engine = EngineProcess()
    try:
        with pytest.raises(TrainingFailed):
            await engine.ask(Kind.ROWS, NOTHING, b"", answer=Nothing, seconds=20)
        assert engine.ended
    finally:
        engine.end()


async def test_a_job_that_is_ended_does_not_wait_for_it(
    job: Job, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fault(Way.STOPPED, Kind.BEGIN).strike(monkeypatch)
    run = TrialRun(job.spec, 0, 0, engines)
    running = asyncio.create_task(run.begin(plan(job)))
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)


class TestPredictor:
    async def test_a_query_that_ends_it_gets_no_answer_and_the_next_one_does(
        self, job: Job, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        onnx, _ = await whole(job, LocalEngines())
        fault = Fault(Way.KILLED, Kind.PREDICT)
        fault.strike(monkeypatch)
        model = await RemoteModel.load(onnx, job.spec, engines)
        assert model is not None
        try:
            with pytest.raises(TrainingFailed):
                await model.predict(IMAGES[:3])
            scores = await model.predict(IMAGES[:3])
        finally:
            model.end()
        assert scores.shape == (3, 3)
        assert fault.struck == 1
        assert fault.left == []

    @pytest.mark.parametrize("onnx", [b"", b"garbage"])
    async def test_a_model_that_it_does_not_take_is_none(
        self, onnx: bytes, job: Job, engines: Engines
    ) -> None:
        assert await RemoteModel.load(onnx, job.spec, engines) is None


def test_who_holds_keys_loads_no_engine(subprocess_modules: Callable[[str], set[str]]) -> None:
    roles = (
        "chiron.runtime.roles.leader, chiron.runtime.roles.predictor, chiron.runtime.roles.parameter_server"
    )
    assert not {"onnx", "onnxruntime", "google.protobuf"} & subprocess_modules(roles)


@pytest.fixture
def subprocess_modules() -> Callable[[str], set[str]]:
    def loaded(names: str) -> set[str]:
        program = f"import sys, {names}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return loaded
