"""The `chiron` command as people meet it: help that teaches, errors with codes, nothing granted unasked."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chiron.cli.application import EXIT_REJECTED, load, main, names
from chiron.cli.train import agreed_capabilities
from chiron.client.configuration import HOME_VARIABLE, KEY_VARIABLE, URL_VARIABLE
from chiron.client.errors import ConfigurationInvalid
from chiron.wire.contract import Capability
from tests.support.owners_world import World
from tests.support.tee import MEASUREMENT

DATA = "digits.enc"


def commands() -> list[list[str]]:
    """Every command that the application has."""
    found: list[list[str]] = []
    for name in names():
        inside = getattr(load(name), "commands", None)
        found += [[name, command] for command in inside] if inside else [[name]]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_teaches_with_an_example(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"Example: chiron {' '.join(command)}" in told


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHIRON")}
    return subprocess.run(
        [sys.executable, "-m", "chiron", *arguments],
        env=inherited | {HOME_VARIABLE: str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_as_a_process_results_are_on_stdout_and_errors_have_codes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    out = str(tmp_path / DATA)
    made = run("data", "encrypt", "sklearn:iris", "--out", out, "--json", home=home)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["examples"] == 150
    assert Path(told["record"]).is_file()
    again = run("data", "encrypt", "sklearn:iris", "--out", out, home=home)
    assert (again.returncode, again.stdout) == (1, "")
    assert "[destination-exists]" in again.stderr
    assert run("data", "encrypt", "sklearn:iris", home=home).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("train", "x", "y"), "policy-missing"),
        (("train", "x", "y", "-m", "abc"), "configuration-invalid"),
        (("train", "missing", "y", "-m", "a" * 64), "dataset-not-found"),
        (("predict", "missing", "--held-out"), "job-not-found"),
        (("data", "upload", "missing.enc"), "bundle-invalid"),
        (("data", "encrypt", "missing.csv", "-o", "out"), "source-invalid"),
        (("data", "encrypt", "sklearn:digits", "-o", "out", "--image-size", "8"), "configuration-invalid"),
        (("job", "list"), "configuration-missing"),
        (("attest", "verify", "0" * 32), "policy-missing"),
        (("attest", "verify", "0" * 32, "-m", "a" * 64, "--evidence", "e.json"), "configuration-invalid"),
    ],
)
def test_mistakes_are_told_with_their_code(
    arguments: tuple[str, ...],
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for variable in (URL_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"[{code}]" in told.err


class Shell:
    """An owner at the prompt. Commands run in a thread, as the gateway is in this event loop."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys
        self.root = world.directory / "root.pem"
        self.root.write_bytes(world.tee.root_pem)
        self.accept = ("-m", MEASUREMENT.hex(), "--trust-software-root", str(self.root))

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, arguments)
        told = self._capsys.readouterr()
        return code, told.out, " ".join(told.err.split())

    async def prepare(self) -> None:
        """Encrypt and upload the digits."""
        for command in (
            ("data", "encrypt", "sklearn:digits", "--held-out", "20", "--out", DATA),
            ("data", "upload", DATA),
        ):
            code, _, err = await self(*command)
            assert code == 0, err


@pytest.fixture
async def shell(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv(HOME_VARIABLE, str(world.store.root))
    monkeypatch.setenv(URL_VARIABLE, world.running.url)
    monkeypatch.setenv(KEY_VARIABLE, world.owner_key)
    monkeypatch.chdir(world.directory)
    return Shell(world, capsys)


def csv_rows(path: Path) -> int:
    with path.open() as file:
        return len(list(csv.reader(file)))


async def test_a_job_from_the_command_line(shell: Shell) -> None:
    await shell.prepare()
    code, out, err = await shell(
        "train", DATA, "class-means", *shell.accept, "--exchanges", "3", "--yes", "--json"
    )
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["status"] == "trained"
    assert result["evidence_verified"] is True
    assert "SOFTWARE root" in err
    assert "14. it is the role and job we asked for" in err
    assert "may decrypt this dataset, for this job only" in err
    job = result["job"]
    code, out, err = await shell("predict", job[:6], "--held-out", "--json", "--output", "p.csv")
    assert code == 0, err
    assert json.loads(out)["accuracy"] > 0.85
    assert csv_rows(Path("p.csv")) == 1 + 359
    code, out, _ = await shell("job", "show", job)
    assert (code, out.count("0.9000")) == (0, 3)
    code, out, _ = await shell("job", "observations", job, "--json")
    kinds = {seen["kind"] for seen in json.loads(out)}
    assert {"evidence", "grant", "query", "answer"} <= kinds
    code, out, _ = await shell("job", "list", "--json")
    assert [listed["state"] for listed in json.loads(out)] == ["succeeded"]


async def test_rejected_evidence_is_shown_and_ends_the_job(shell: Shell) -> None:
    await shell.prepare()
    shell.world.faults.measurement = bytes(32)
    code, _, err = await shell("train", DATA, "class-means", *shell.accept, "--yes")
    assert code == EXIT_REJECTED
    assert "✗ 10. the enclave runs code the policy accepts" in err
    assert "(not reached)" in err
    assert "[evidence-measurement]" in err
    assert shell.world.enclaves.grants == {}
    _, out, _ = await shell("job", "list", "--json")
    assert [listed["state"] for listed in json.loads(out)] == ["cancelled"]


async def test_without_the_software_root_flag_the_reason_is_told(shell: Shell) -> None:
    await shell.prepare()
    code, _, err = await shell("train", DATA, "class-means", "-m", MEASUREMENT.hex(), "--yes")
    assert code == EXIT_REJECTED
    assert "--trust-software-root" in err
    assert shell.world.enclaves.grants == {}


async def test_saying_no_grants_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    await shell.prepare()
    monkeypatch.setattr("typer.confirm", _says_no)
    code, _, _ = await shell("train", DATA, "class-means", *shell.accept)
    assert code == 1
    assert shell.world.enclaves.grants == {}
    _, out, _ = await shell("job", "list", "--json")
    assert [listed["state"] for listed in json.loads(out)] == ["cancelled"]


def _says_no(*_: object, **__: object) -> bool:
    import typer

    raise typer.Abort


async def test_predicting_remembers_the_policy_and_takes_files(shell: Shell) -> None:
    await shell.prepare()
    code, out, _ = await shell(
        "train", DATA, "class-means", *shell.accept, "--exchanges", "1", "-y", "--json"
    )
    job = json.loads(out.splitlines()[-1])["job"]
    np.save("rows.npy", np.zeros((2, 64), np.float32))
    code, out, _ = await shell("predict", job, "rows.npy", "--json")
    assert (code, json.loads(out)["rows"]) == (0, 2)
    code, _, err = await shell(
        "predict", job, "rows.npy", "-m", "0" * 64, "--trust-software-root", "root.pem"
    )
    assert code == EXIT_REJECTED
    assert "[evidence-measurement]" in err
    code, _, err = await shell("predict", job)
    assert (code, "[configuration-invalid]" in err) == (1, True)
    code, out, err = await shell("attest", "verify", job, "--role", "predictor", *shell.accept, "--json")
    assert code == 0, err
    assert [step["passed"] for step in json.loads(out)["steps"]] == [True] * 15


async def test_doctor_looks_at_the_gateway_too(shell: Shell) -> None:
    code, out, _ = await shell("doctor", "--json")
    findings = {finding["name"]: finding["fine"] for finding in json.loads(out)}
    assert findings["gateway"]
    assert (code == 0) == all(findings.values())


def test_yes_alone_grants_nothing_that_shows_data() -> None:
    shape, sample = Capability.DATASET_SHAPE, Capability.DATASET_SAMPLE
    assert agreed_capabilities([shape], None, 32, may_ask=False).granted == {shape}
    with pytest.raises(ConfigurationInvalid) as caught:
        agreed_capabilities([shape, sample], None, 32, may_ask=False)
    assert caught.value.code == "capability-not-granted"
    agreed = agreed_capabilities([shape, sample], [shape, sample], 32, may_ask=False)
    assert agreed.sample_examples == 32
    assert agreed_capabilities([sample], None, 8, may_ask=True).sample_examples == 8
    with pytest.raises(ConfigurationInvalid):
        agreed_capabilities([shape, sample], [shape], 32, may_ask=True)
