"""A colleague with a pass, a stopped predictor, and an owner who is away, by the commands people type."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from chiron import Client, JobRequest, PassTerms
from chiron.client.configuration import HOME_VARIABLE, KEY_VARIABLE, URL_VARIABLE
from chiron.client.datasets import Encrypted
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, History
from chiron.client.pass_file import write_pass
from chiron.wire.public_api import PredictorState
from tests.end_to_end.service import Service, run_to_end, stopped
from tests.support.specs import UNPACED


@pytest.fixture(scope="module")
def job(owner: Client, digits: Encrypted, linear: str) -> str:
    """A job with a model, whose predictor does not run."""
    dataset_id = digits.bundle.manifest.dataset_id
    request = JobRequest(terms=UNPACED, dataset_id=dataset_id, builder_sha256=linear, exchanges=1)
    ended, _ = run_to_end(owner, request)
    return ended.spec.job


@pytest.fixture(scope="module")
def under_pass(
    owner: Client, job: str, digits: Encrypted, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """What the colleague types."""
    directory = tmp_path_factory.mktemp("colleague")
    until = datetime.now(UTC) + timedelta(hours=1)
    write_pass(directory / "a.pass", owner.share(job, PassTerms(rows=10, until=until)))
    assert digits.record.held_out is not None
    with np.load(digits.record.held_out) as kept:
        np.save(directory / "rows.npy", kept["x"][:2])
    return ["predict", "--pass", str(directory / "a.pass"), str(directory / "rows.npy"), "--json"]


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHIRON")}
    return subprocess.Popen(
        [sys.executable, "-m", "chiron", *arguments],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = started(*arguments, **environment)
    out, err = process.communicate(timeout=90)
    return process.returncode, out, " ".join(err.split())


@pytest.fixture
def owners(service: Service) -> dict[str, str]:
    """The owner's environment."""
    return {
        HOME_VARIABLE: str(service.home / "owner"),
        URL_VARIABLE: service.url,
        KEY_VARIABLE: service.owner_key,
    }


def running(service: Service, job: str) -> None:
    """A predictor that is ready, and locked."""

    async def start() -> None:
        async with GatewaySession(service.url, service.owner_key) as gateway:
            status = await gateway.start_predictor(job)
            while status.state is not PredictorState.READY:
                await asyncio.sleep(0.05)
                status = await gateway.predictor(job)

    asyncio.run(start())


def test_without_an_owner_the_colleague_is_told_what_to_do(under_pass: list[str], tmp_path: Path) -> None:
    code, out, err = ran(*under_pass, "--wait", "0", **{HOME_VARIABLE: str(tmp_path)})
    assert (code, out) == (1, "")
    assert "[predictor-locked]" in err
    assert "chiron keyholder" in err


def test_a_keyholder_opens_what_the_colleague_started(
    service: Service,
    owner: Client,
    job: str,
    under_pass: list[str],
    owners: dict[str, str],
    tmp_path: Path,
) -> None:
    stopped(service, job)
    keyholder = started("keyholder", job, "--json", **owners)
    try:
        code, out, err = ran(*under_pass, **{HOME_VARIABLE: str(tmp_path)})
        assert code == 0, err
        assert json.loads(out)["rows"] == 2
    finally:
        keyholder.send_signal(signal.SIGTERM)
        told, said = keyholder.communicate(timeout=20)
    assert keyholder.returncode == 0, said
    (line,) = [json.loads(line) for line in told.splitlines()]
    assert (line["job"], line["did"], line["passes"]) == (job, "opened", 1)
    assert [entry.did for entry in History(owner.store, job).entries()].count(Deed.OPENED) == 1


def test_once_opens_and_ends(service: Service, job: str, owners: dict[str, str]) -> None:
    stopped(service, job)
    assert ran("keyholder", job, "--once", "--json", **owners)[:2] == (0, "")
    running(service, job)
    code, out, err = ran("keyholder", job, "--once", "--json", **owners)
    assert (code, json.loads(out)["did"]) == (0, "opened"), err


def test_once_says_so_where_the_gateway_is_away(job: str, owners: dict[str, str]) -> None:
    code, _, err = ran("keyholder", job, "--once", **owners | {URL_VARIABLE: "http://127.0.0.1:9"})
    assert code == 1
    assert "[gateway-unreachable]" in err
