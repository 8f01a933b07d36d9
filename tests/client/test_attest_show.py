"""`chiron attest show`: all that evidence says, which is not what was verified of it."""

import json
from pathlib import Path

import pytest

from chiron.cli.application import main
from chiron.cli.options import warn_of_unpinned
from tests.support.forge import IDENTITY, JOB, Platform

OURS = Platform()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "evidence.json"
    path.write_text(OURS.evidence().model_dump_json())
    return path


def test_every_fact_that_a_policy_can_pin_is_read_out(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "show", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["measurement"], facts["signer"]) == (IDENTITY.measurement.hex(), IDENTITY.signer.hex())
    assert (facts["job"], facts["role"], facts["svn"]) == (JOB, "parameter-server", IDENTITY.svn)
    assert (facts["tcb_status"], facts["smt"], facts["memory"]) == ("UpToDate", True, "standard")
    policy = OURS.policy(platforms=[{name: facts[name] for name in ("ppid", "instance_id", "fmspc")}])
    assert policy.platforms


def test_people_are_told_that_nothing_is_verified(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "show", str(file)]) == 0
    told = capsys.readouterr()
    assert "nothing of it is verified" in told.err
    assert "ppid" in told.out


def test_a_file_that_holds_no_evidence_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("{}")
    assert main(["attest", "show", str(file)]) != 0
    assert "holds no evidence: quote: " in capsys.readouterr().err


def test_genuine_evidence_of_any_machine_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_unpinned(OURS.policy())
    assert capsys.readouterr().err == ""
    warn_of_unpinned(OURS.policy(software_root=None))
    warn_of_unpinned(OURS.policy(software_root=None, platforms=[{"ppid": "0" * 32}]))
    assert capsys.readouterr().err.count("pins no platform") == 1
