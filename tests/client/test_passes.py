"""Passes on the owner's and on the holder's machine: records, files, and what the commands say of them."""

import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron import ConfigurationInvalid, OwnerStore, PassFile, PassHolder, PassUnusable, RecordUnusable
from chiron.cli.application import main
from chiron.client.errors import RecordMissing
from chiron.client.pass_file import holder_named, holder_text, public_key_of, read_pass, write_pass
from chiron.client.passes import IssuedPass, PassBook
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.opening import Pass
from tests.support.specs import JOB, job_spec

KEY = bytes(range(32))


def a_pass(number: int = 1, **changes: Any) -> Pass:
    usual = {"id": f"{number:032x}", "job": JOB, "holder": public_key_of(KEY), "rows": 5, "until": 2**36}
    return Pass.model_validate(usual | changes)


def a_file(holder_key: bytes | None = KEY, **changes: Any) -> PassFile:
    usual = {
        "allowed": a_pass(),
        "holder_key": holder_key,
        "owner_public_key": bytes(32),
        "spec": job_spec(),
        "policy": AttestationPolicy(measurements=frozenset({"0" * 64})),
        "gateway": "http://127.0.0.1:9",
        "api_key": "a-secret",
    }
    return PassFile.model_validate(usual | changes)


def test_a_pass_is_written_for_its_reader_alone_and_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.pass"
    write_pass(path, a_file())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_pass(path) == a_file()
    with pytest.raises(ConfigurationInvalid, match="exists"):
        write_pass(path, a_file())
    path.chmod(0o644)
    with pytest.raises(RecordUnusable, match="chmod 600"):
        read_pass(path)


def test_a_file_that_is_no_pass_is_refused_and_its_content_told_to_nobody(tmp_path: Path) -> None:
    good = a_file().model_dump(mode="json")
    other = holder_text(public_key_of(bytes(32))).partition(":")[2]
    for wrong in (
        good | {"more": 1},
        good | {"version": 2},
        good | {"gateway": "file:///etc/passwd"},
        good | {"allowed": good["allowed"] | {"job": "f" * 32}},
        good | {"allowed": good["allowed"] | {"holder": other}},
        {},
    ):
        path = tmp_path / "wrong.pass"
        path.write_text(json.dumps(wrong))
        path.chmod(0o600)
        with pytest.raises(PassUnusable) as refused:
            read_pass(path)
        assert good["holder_key"] not in str(refused.value)
    assert "a-secret" not in repr(a_file())


def test_a_holders_public_key_is_told_in_one_form() -> None:
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert holder_named(holder_text(key)) == key
    for wrong in ("", "Zm9v", holder_text(key)[:-4], "chiron-holder-ed25519:!", holder_text(key + key)):
        with pytest.raises(ConfigurationInvalid, match="chiron share key"):
            holder_named(wrong)


def test_of_passes_that_are_made_at_once_none_is_lost_and_each_is_revoked_by_its_name(tmp_path: Path) -> None:
    book = PassBook(OwnerStore(tmp_path))
    issued = [IssuedPass(allowed=a_pass(number << 64), issued_at=1) for number in range(1, 21)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(book.add, issued))
    assert len(book.read(JOB).passes) == 20
    first = book.revoke(JOB, issued[0].allowed.id, 7)
    assert book.revoke(JOB, issued[0].allowed.id, 9) == first
    assert len(book.read(JOB).holding(now=8)) == 19
    for name in ("", "00", "f"):
        with pytest.raises(RecordMissing, match="chiron share list"):
            book.revoke(JOB, name, 7)


async def test_a_holder_with_a_key_of_their_own_needs_that_very_key() -> None:
    own = a_file(holder_key=None)
    with pytest.raises(PassUnusable, match="--key"):
        PassHolder(own)
    with pytest.raises(PassUnusable, match="another holder"):
        PassHolder(own, bytes(32))
    async with PassHolder(own, KEY) as holder:
        assert holder.allowed == own.allowed


def test_the_command_makes_a_holders_key_and_says_what_is_wrong_with_a_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["share", "key", "--out", str(tmp_path / "my.key")]) == 0
    public = capsys.readouterr().out.strip()
    ended = a_file(holder_key=None, allowed=a_pass(holder=holder_named(public), until=int(time.time()) - 1))
    write_pass(tmp_path / "a.pass", ended)
    rows = tmp_path / "rows.npy"
    np.save(rows, np.zeros((1, 2, 3), np.float32))
    under = ["predict", "--pass", str(tmp_path / "a.pass"), str(rows)]
    assert main(under) == 1
    assert "pass-unusable" in capsys.readouterr().err
    assert main([*under, "--key", str(tmp_path / "my.key")]) == 1
    assert "pass-expired" in capsys.readouterr().err
