"""Backups by the very steps of docs/operations.md: restored on the same machine, another one, and in part."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from chiron import Client, JobRequest
from chiron.client.datasets import Encrypted
from chiron.client.machines import MachineBook
from tests.end_to_end.service import ROOT, Service, serving
from tests.support.images import copied
from tests.support.specs import UNPACED
from tests.support.tee import machine_of_the_same_maker

STATE = "/var/lib/chiron"


def steps() -> list[str]:
    """The commands of the chapter, a block each: take a backup, restore it, restore it elsewhere."""
    chapter = (ROOT / "docs/operations.md").read_text().split("\n## Backup\n")[1].split("\n## ")[0]
    return [block.split("```")[0] for block in chapter.split("```sh\n")[1:]]


def run(block: str, state: Path, where: Path) -> None:
    """Run a block of commands for this state directory; the gateway, which the last may start, we start."""
    script = block.split("\nchiron serve")[0].replace(STATE, str(state)).replace("python3", sys.executable)
    subprocess.run(["bash", "-euc", script], cwd=where, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with TemporaryDirectory(prefix="chiron-test-") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def paris(service: Service, image: Path, work: Path) -> Path:
    """The state directory of a second machine, which the owner has added by the command that people type."""
    state = work / "paris"
    machine_of_the_same_maker(service.state / "tee", state / "tee")
    with serving(state, work / "home", "--image", str(image)) as there:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CHIRON")}
        environment |= {
            "CHIRON_URL": there.url,
            "CHIRON_API_KEY": there.owner_key,
            "CHIRON_HOME": str(service.home / "owner"),
        }
        trusted = ["--measurement", there.measurement, "--trust-software-root", str(service.software_root)]
        command = [sys.executable, "-m", "chiron", "machine", "add", "paris", *trusted, "--json"]
        ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["measurement"] == service.measurement
    with (service.state / "machines").open("a") as allowed:
        allowed.write(f"{told['key']}  # paris\n")
    return state


@pytest.fixture(scope="module")
def job(service: Service, owner: Client, digits: Encrypted, linear: str, paris: Path) -> str:
    """A job whose model is kept for the second machine, too."""
    assert paris.exists()
    request = JobRequest(
        dataset_id=digits.bundle.manifest.dataset_id,
        builder_sha256=linear,
        exchanges=1,
        trainers=1,
        terms=UNPACED,
    )
    terms = owner.train(request, machines=["paris"]).job
    granted = owner.store.job(terms.spec.job).terms
    assert granted is not None
    assert granted.machines == MachineBook(owner.store).keys(["paris"])
    return terms.spec.job


@pytest.fixture(scope="module")
def backup(service: Service, image: Path, job: str, work: Path) -> Path:
    """Taken while the gateway runs."""
    assert job
    if not (service.state / "image").exists():
        copied(image, service.state / "image")
    run(steps()[0], service.state, work)
    shutil.rmtree(service.state / "image")
    return work / "backup"


def predicted(service: Service, state: Path, work: Path, digits: Encrypted, job: str) -> int:
    """How many held-out rows the restored service answers, of two; with the keys of before."""
    assert digits.record.held_out is not None
    with np.load(digits.record.held_out) as kept:
        rows = kept["x"][:2]
    with serving(state, work / "home", "--image", str(state / "image")) as restored:
        assert restored.measurement == service.measurement
        there = replace(restored, owner_key=service.owner_key, home=service.home)
        with there.owner(service.policy) as owner:
            return len(owner.predict(job, rows))


def test_a_restored_backup_predicts(
    service: Service, digits: Encrypted, job: str, backup: Path, work: Path
) -> None:
    run(steps()[1], work / "again", work)
    assert predicted(service, work / "again", work, digits, job) == 2


def test_a_backup_restored_on_a_machine_that_the_grant_names_predicts(
    service: Service, digits: Encrypted, job: str, backup: Path, paris: Path, work: Path
) -> None:
    for own in paris.glob("gateway.sqlite3*"):
        own.unlink()
    run(steps()[2], paris, work)
    secret = (paris / "tee/fuse-secret").read_bytes()
    assert secret != (backup / "tee/fuse-secret").read_bytes()
    assert predicted(service, paris, work, digits, job) == 2


def test_a_backup_without_the_tee_says_what_is_missing(image: Path, backup: Path, work: Path) -> None:
    state = work / "partial"
    run(steps()[1], state, work)
    shutil.rmtree(state / "tee")
    command = [sys.executable, "-m", "chiron", "serve", "--state-dir", str(state), "--port", "0"]
    ran = subprocess.run(
        [*command, "--image", str(state / "image")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "[tee-missing]" in ran.stderr
    assert "Restore it from the backup" in " ".join(ran.stderr.split())
    assert not (state / "tee").exists()
