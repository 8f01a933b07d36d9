"""`chiron keys`: what it prints where, and that no key is told twice."""

import json
import stat
from pathlib import Path

import pytest

from chiron.cli.application import main
from chiron.client.configuration import HOME_VARIABLE, KEY_VARIABLE, load_configuration
from chiron.wire.apikeys import KEY


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The option that names a gateway's directory."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return ["--state-dir", str(tmp_path / "state")]


def keys(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `chiron keys …`."""
    code = main(["keys", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_key_is_alone_on_standard_output_and_listed_without_it(
    state: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = keys(capsys, "create", "--tenant", "clinic", "--expires", "30", "--label", "lab", *state)
    key = KEY.fullmatch(out.strip())
    assert code == 0
    assert key is not None
    assert key[2] not in err
    code, out, err = keys(capsys, "list", "--json", *state)
    (entry,) = json.loads(out)
    assert (entry["id"], entry["tenant"], entry["role"], entry["state"]) == (
        key[1],
        "clinic",
        "owner",
        "holds",
    )
    assert entry["last_used"] is None
    assert key[2] not in out + err
    assert keys(capsys, "list", *state)[1].count("clinic") == 1


def test_a_revoked_key_is_listed_as_such_and_an_unknown_one_refused(
    state: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    key_id = keys(capsys, "create", "--tenant", "clinic", *state)[1].split("_")[1]
    assert keys(capsys, "revoke", key_id, *state)[0] == 0
    assert json.loads(keys(capsys, "list", "--json", *state)[1])[0]["state"] == "revoked"
    code, _, err = keys(capsys, "revoke", "0" * 16, *state)
    assert code == 1
    assert "[key-unknown]" in err


def test_a_rotation_prints_the_new_key_and_says_until_when_the_old_one_holds(
    state: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = keys(capsys, "create", "--tenant", "clinic", *state)[1].strip()
    code, out, err = keys(capsys, "rotate", old.split("_")[1], "--overlap", "2", *state)
    assert code == 0
    assert KEY.fullmatch(out.strip())
    assert out.strip() != old
    assert "holds until 20" in err
    first, second = json.loads(keys(capsys, "list", "--json", *state)[1])
    assert (first["expires"] is None) != (second["expires"] is None)


def test_a_requested_key_stays_with_its_holder_and_works_once_added(
    state: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = keys(capsys, "request")
    assert code == 0
    file = tmp_path / "home" / "api.key"
    secret = file.read_text().strip().split("_", 2)[2]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in out + err
    assert load_configuration().gateway_key() == file.read_text().strip()
    line = out.split()
    assert line[:3] == ["chiron", "keys", "add"]
    line[line.index("TENANT")] = "clinic"
    assert main([*line[1:], *state]) == 0
    capsys.readouterr()
    assert json.loads(keys(capsys, "list", "--json", *state)[1])[0]["made_by_holder"] is True


def test_a_request_neither_overwrites_a_key_nor_takes_one_out_of_use(
    state: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert keys(capsys, "request")[0] == 0
    before = load_configuration().gateway_key()
    code, _, err = keys(capsys, "request")
    assert code == 1
    assert "exists" in err
    code, out, _ = keys(capsys, "request", "--out", str(tmp_path / "new.key"), "--json")
    assert code == 0
    assert json.loads(out)["configured"] is False
    assert load_configuration().gateway_key() == before


@pytest.mark.parametrize("expires", ["0", "2020-01-01", "tomorrow", "9" * 30])
def test_an_expiry_that_is_none_is_refused(
    state: list[str], capsys: pytest.CaptureFixture[str], expires: str
) -> None:
    code, out, err = keys(capsys, "create", "--tenant", "clinic", "--expires", expires, *state)
    assert (code, out) == (1, "")
    assert "[configuration-invalid]" in err
