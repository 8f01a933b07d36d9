"""A host whose answers to an enclave's calls are nonsense: what Occlum passes outside, the host answers.

Real roles, as processes, over a library that forges what recv, send, accept, socket, epoll_wait, read and
clock_gettime say (`tests/support/lying_host.c`). It writes down each lie, and all that roles hand over.
"""

import asyncio
import base64
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from chiron import ChironError
from chiron.api.settings import Timing
from chiron.runtime.__main__ import EXIT_INTERNAL, EXIT_REFUSED, EXIT_STOPPED
from chiron.runtime.roles.sealed_model import open_model
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role
from chiron.wire.jobs import Job, JobState, PublicFailure
from chiron.wire.labels import MODEL
from chiron.wire.launch import LAUNCH_VARIABLE, GatewayChannel
from tests.support.builders import orderly
from tests.support.datasets import digits
from tests.support.faulty_host import FaultyHost, faulty_host
from tests.support.processes import ROOT
from tests.support.specs import job_spec, launch_spec
from tests.support.tee import DirectPlatform

SOURCE = Path(__file__).parents[1] / "support/lying_host.c"
STALLED_S = 4
"""After the first lie to a role that speaks: a job that goes on is cancelled then, as its owner or the
gateway's deadline would."""
PATIENCE_S = 90
"""Far more than a job takes from its creation to its end, on a busy machine too."""
PIECE_BYTES = 48
"""Of the model's middle, where its weights are: what is looked for."""
KILLED = 137
EXITS = {0, EXIT_INTERNAL, EXIT_REFUSED, EXIT_STOPPED, KILLED}
"""All that a role may exit with. A fault of memory (139) and an abort (134) are not among them."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The liar, compiled."""
    made = tmp_path_factory.mktemp("liar") / "lying_host.so"
    compiler = (sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-gnu.2.31")
    options = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror")
    subprocess.run([*compiler, *options, "-o", made, SOURCE], check=True, timeout=120)
    return made


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for the paths of Unix sockets."""
    with TemporaryDirectory(prefix="chiron-") as made:
        yield Path(made)


def lying(library: Path, kinds: str, written: Path) -> dict[str, str]:
    """The variables that make a process be lied to."""
    written.mkdir()
    return {"LD_PRELOAD": str(library), "LIES": kinds, "LIES_SEED": "1", "LIES_DIRECTORY": str(written)}


def told_and_lies(written: Path) -> tuple[bytes, int]:
    """All that processes handed to the host, and how often it lied."""
    told = b"".join(path.read_bytes() for path in written.glob("*.told"))
    return told, sum(path.stat().st_size for path in written.glob("*.lies"))


async def used(host: FaultyHost) -> Job:
    """A job to its end, and a query of what it made; whatever is refused on the way has a code."""
    with suppress(ChironError):
        await host.begin(exchanges=3)
    job = host.launcher.orders[0].spec.job
    ended = [seen async for seen in host.owner.watch(job)][-1]
    await host.gateway.supervisor.settled(job)
    if ended.state is JobState.SUCCEEDED:
        with suppress(ChironError):
            await host.owner.predict(job, digits(2)[0])
    return ended


async def attacked(host: FaultyHost, written: Path, stalled_s: float) -> Job:
    """As `used`; cancelled where it has not ended so long after roles were lied to and spoke."""
    using = asyncio.create_task(used(host))
    while not using.done() and not all(told_and_lies(written)):
        await asyncio.wait({using}, timeout=0.1)
    await asyncio.wait({using}, timeout=stalled_s)
    if not using.done():
        with suppress(ChironError):
            await host.owner.cancel(host.launcher.orders[0].spec.job)
    return await using


def secrets_of(host: FaultyHost, job: Job) -> list[bytes]:
    """Rows as encrypted and as computed with, keys as they are and as JSON has them, and the model."""
    x = digits()[0]
    keys = host.dataset.record.key, host.owner.store.job(job.spec.job).share
    found = [secret for key in keys for secret in (key, base64.b64encode(key), key.hex().encode())]
    found += [form.tobytes() for row in x for form in (row, row.astype("<f4"))]
    for path in host.objects(job, "model"):
        sealer = Sealer(
            DirectPlatform(host.launcher.backend.tee), MODEL, host.owner.store.job(job.spec.job).share
        )
        model = open_model(job.spec, path.read_bytes(), sealer)[1]
        # There is none where all steps were late by the host's clock.
        found += [model[len(model) // 2 :][:PIECE_BYTES]] if model else []
    return found


@pytest.mark.parametrize(
    ("kinds", "harmless"),
    [
        ("short, again", True),
        ("overlong, negative, errors, ends, bytes", False),
        ("descriptors", False),
        ("wakeups", False),
        ("times", False),
        ("sleep", False),
    ],
    ids=["short", "wrong", "descriptors", "wakeups", "times", "sleep"],
)
async def test_attacks_by_forged_answers_tell_nothing_and_end_with_a_public_code(
    library: Path, directory: Path, kinds: str, harmless: bool
) -> None:
    written = directory / "lies"
    timing = Timing(job_s=PATIENCE_S, enclave_stop_s=0.5, relay_s=PATIENCE_S / 3)
    async with faulty_host(directory, orderly(epochs=1), timing) as host:
        host.launcher.backend.environment = lying(library, kinds, written)
        async with asyncio.timeout(PATIENCE_S):
            job = await attacked(host, written, PATIENCE_S if harmless else STALLED_S)
        assert not {one.name for one in host.launcher.running} - {f"{Role.PREDICTOR}-0"}
        await host.launcher.backend.close()
        exits = [await enclave.wait() for enclave in host.launcher.enclaves]
        assert set(exits) <= EXITS, host.logs()
        if harmless:
            assert job.state is JobState.SUCCEEDED, (job.failure, host.logs())
        assert job.failure in {None, *PublicFailure}
        assert "Traceback" not in host.logs()
        told, lies = told_and_lies(written)
        assert lies
        assert b"/enclave/v1/" in told  # What was in the clear, as it may be, is found.
        assert not any(secret in told for secret in secrets_of(host, job))


def test_attacks_by_forged_reads_of_the_launch_specification_are_refused(
    library: Path, directory: Path
) -> None:
    channel = GatewayChannel(socket=str(directory / "nobody"), token="t")
    specification = launch_spec(job_spec(), Role.TRAINER, channel).model_dump_json()
    started = {}
    for lie in ("overlong", "negative", "error", "ends", "bytes"):
        environment = lying(library, f"file-{lie}", directory / lie)
        file = directory / lie / "launch"
        file.write_text(specification)
        started[lie] = subprocess.Popen(
            [sys.executable, "-m", "chiron.runtime"],
            cwd=ROOT,
            env={**os.environ, **environment, LAUNCH_VARIABLE: f"@{file}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    for lie, process in started.items():
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == EXIT_REFUSED, (lie, said)
        assert "launch-spec-invalid" in said
        assert "Traceback" not in said
        assert told_and_lies(directory / lie)[1]
