"""The log on disk: what it promises, what it notices, and what a policy that demands it accepts."""

import json
import stat
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.cli.application import main
from chiron.enclave_image.errors import LogCorrupted
from chiron.enclave_image.transparency_log import ENTRIES, HEADS, TransparencyLog
from chiron.runtime.attestation.policy_file import load_policy
from chiron.runtime.attestation.steps import Step
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import EvidenceRefused, LogRefused
from chiron.runtime.transparency import check_consistency, check_head, check_inclusion
from chiron.wire.attestation import Role
from chiron.wire.transparency import InclusionProof, LogEntry, TransparencyPolicy
from tests.support.forge import JOB, MEASUREMENT, NONCE, NOW, SIGNER, Platform

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def entry(number: int) -> LogEntry:
    return LogEntry(
        measurement=f"{number:064x}",
        image_measurement="1" * 64,
        source_revision=f"{number:040x}",
        lock_sha256="0" * 64,
    )


def filled(directory: Path, count: int) -> TransparencyLog:
    log = TransparencyLog.create(directory, PUBLIC)
    for number in range(count):
        log = log.append(entry(number), KEY, NOW + timedelta(minutes=number))
    return log


def test_appended_entries_are_there_after_reopening_with_every_head(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    log = TransparencyLog.open(tmp_path)
    assert log.entries == tuple(entry(number) for number in range(5))
    assert [head.head.tree_size for head in log.heads] == [1, 2, 3, 4, 5]
    for head in log.heads:
        check_head(head, PUBLIC)


def test_every_entry_has_an_inclusion_proof_and_every_head_a_consistency_proof(tmp_path: Path) -> None:
    log = filled(tmp_path, 9)
    for number in range(9):
        proof = log.prove_inclusion(entry(number).measurement)
        check_inclusion(proof, PUBLIC)
        assert (proof.index, proof.entry) == (number, entry(number))
    for head in log.heads:
        check_consistency(log.prove_consistency(head), PUBLIC)


def test_latest_build_of_a_measurement_is_the_one_that_is_proved(tmp_path: Path) -> None:
    log = filled(tmp_path, 3)
    again = entry(1).model_copy(update={"source_revision": "f" * 40})
    log = log.append(again, KEY, NOW)
    assert log.prove_inclusion(entry(1).measurement).index == 3


def test_time_never_goes_back_in_the_log(tmp_path: Path) -> None:
    log = filled(tmp_path, 2).append(entry(2), KEY, NOW - timedelta(days=9))
    times = [head.head.timestamp for head in log.heads]
    assert times == sorted(times)


@pytest.mark.parametrize("change", ["alter", "remove", "swap", "insert"])
def test_rewritten_entries_are_noticed(tmp_path: Path, change: str) -> None:
    filled(tmp_path, 4)
    path = tmp_path / ENTRIES
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "alter": [lines[0].replace(b'"lock_sha256":"0', b'"lock_sha256":"1'), *lines[1:]],
        "remove": lines[1:],
        "swap": [lines[1], lines[0], *lines[2:]],
        "insert": [lines[0], *lines],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(LogCorrupted, match="rewritten"):
        TransparencyLog.open(tmp_path)


def test_log_that_was_rewritten_whole_is_noticed_by_whoever_kept_a_head(tmp_path: Path) -> None:
    """The log's own key signs another history."""
    kept = filled(tmp_path / "honest", 3).heads[1]
    other = TransparencyLog.create(tmp_path / "rewritten", PUBLIC)
    for number in (7, 8, 9):
        other = other.append(entry(number), KEY, NOW)
    with pytest.raises(LogCorrupted, match="rewritten"):
        other.prove_consistency(kept)


@pytest.mark.parametrize("name", [ENTRIES, HEADS])
@pytest.mark.parametrize("garbage", [b"{}\n", b"garbage\n", b"\xff\n", b"[]\n"])
def test_foreign_lines_are_noticed(tmp_path: Path, name: str, garbage: bytes) -> None:
    filled(tmp_path, 2)
    with (tmp_path / name).open("ab") as file:
        file.write(garbage)
    with pytest.raises(LogCorrupted, match=name):
        TransparencyLog.open(tmp_path)


def test_head_of_another_key_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    (tmp_path / "public-key").write_text("00" * 32)
    with pytest.raises(LogCorrupted, match="not signed by this log"):
        TransparencyLog.open(tmp_path)


@pytest.mark.parametrize("partial", [ENTRIES, HEADS])
def test_crash_while_appending_loses_nothing_that_was_promised(tmp_path: Path, partial: str) -> None:
    """Half a line, and an entry whose head was never signed."""
    filled(tmp_path, 2)
    with (tmp_path / partial).open("ab") as file:
        file.write(b'{"half":')
    log = TransparencyLog.open(tmp_path).append(entry(2), KEY, NOW)
    assert TransparencyLog.open(tmp_path).entries == log.entries == tuple(entry(n) for n in range(3))


def test_unsigned_entry_of_a_crash_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    with (tmp_path / ENTRIES).open("ab") as file:
        file.write(entry(9).leaf() + b"\n")
    assert len(TransparencyLog.open(tmp_path).entries) == 2
    TransparencyLog.open(tmp_path).append(entry(2), KEY, NOW)
    assert TransparencyLog.open(tmp_path).entries[-1] == entry(2)


def _append_one(directory: str, number: int) -> None:
    TransparencyLog.open(Path(directory)).append(entry(number), KEY, NOW)


def test_two_builds_at_once_both_get_in(tmp_path: Path) -> None:
    TransparencyLog.create(tmp_path, PUBLIC)
    context = get_context("fork")
    processes = [context.Process(target=_append_one, args=(str(tmp_path), n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    measurements = {each.measurement for each in TransparencyLog.open(tmp_path).entries}
    assert measurements == {entry(number).measurement for number in range(4)}


def test_a_log_that_is_opened_while_another_appends_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path, 2)
    read = Path.read_bytes
    files: list[Path] = []

    def read_and_append(path: Path) -> bytes:
        content = read(path)
        files.append(path)
        if len(files) == 1:
            log.append(entry(2), KEY, NOW)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_append)
    assert TransparencyLog.open(tmp_path).head == log.head
    assert TransparencyLog.open(tmp_path).head.head.tree_size == 3


def test_only_the_logs_key_appends(tmp_path: Path) -> None:
    log = filled(tmp_path, 1)
    with pytest.raises(LogCorrupted, match="key"):
        log.append(entry(1), Ed25519PrivateKey.generate(), NOW)


def test_there_is_one_log_a_directory_and_none_without(tmp_path: Path) -> None:
    log = TransparencyLog.create(tmp_path, PUBLIC)
    with pytest.raises(LogCorrupted, match="already"):
        TransparencyLog.create(tmp_path, PUBLIC)
    with pytest.raises(LogCorrupted, match="no log"):
        TransparencyLog.open(tmp_path / "nowhere")
    with pytest.raises(LogCorrupted, match="no entry"):
        _ = log.head


class TestPolicy:
    """Step 11."""

    OURS = Platform()

    def _refusal(self, transparency: TransparencyPolicy) -> EvidenceRefused:
        with pytest.raises(EvidenceRefused) as refused:
            self._verify(transparency)
        assert refused.value.step is Step.TRANSPARENCY
        return refused.value

    def _verify(self, transparency: TransparencyPolicy) -> str:
        expected = Expected(Role.PARAMETER_SERVER, JOB, NONCE)
        policy = self.OURS.policy(transparency=transparency)
        steps = verify(self.OURS.evidence(), policy, expected, NOW).steps
        return steps[Step.TRANSPARENCY.number - 1].detail

    def _proof(self, directory: Path, **signed: Any) -> InclusionProof:
        build = LogEntry(
            measurement=MEASUREMENT.hex(),
            image_measurement="1" * 64,
            source_revision="a" * 40,
            lock_sha256="0" * 64,
            **signed,
        )
        return filled(directory, 3).append(build, KEY, NOW).prove_inclusion(MEASUREMENT.hex())

    def test_logged_measurement_is_accepted_and_its_source_named(self, tmp_path: Path) -> None:
        policy = TransparencyPolicy(log_public_key=PUBLIC, proofs=(self._proof(tmp_path),))
        assert self._verify(policy) == "entry 3 of 4, aaaaaaaaaaaa"

    def test_entry_that_names_a_signer_holds_for_that_signer_only(self, tmp_path: Path) -> None:
        for signer, name in ((SIGNER.hex(), "ours"), ("0" * 64, "another")):
            proof = self._proof(tmp_path / name, version=2, signer=signer)
            policy = TransparencyPolicy(log_public_key=PUBLIC, proofs=(proof,))
            if name == "ours":
                assert self._verify(policy) == "entry 3 of 4, aaaaaaaaaaaa"
            else:
                assert "its signer" in str(self._refusal(policy))

    def test_measurement_without_proof_is_refused(self, tmp_path: Path) -> None:
        other = filled(tmp_path, 3).prove_inclusion(entry(1).measurement)
        for proofs in ((), (other,)):
            error = self._refusal(TransparencyPolicy(log_public_key=PUBLIC, proofs=proofs))
            assert "no inclusion proof" in str(error)

    def test_proof_of_another_log_is_refused(self, tmp_path: Path) -> None:
        policy = TransparencyPolicy(log_public_key=bytes(32), proofs=(self._proof(tmp_path),))
        assert "not signed by this log" in str(self._refusal(policy))

    def test_entry_that_was_put_into_another_proof_is_refused(self, tmp_path: Path) -> None:
        proof = self._proof(tmp_path)
        changes: list[dict[str, Any]] = [
            {"entry": proof.entry.model_copy(update={"source_revision": "b" * 40})},
            {"index": 0},
            {"path": proof.path[:-1]},
            {"path": ("0" * 64, *proof.path[1:])},
        ]
        for change in changes:
            forged = proof.model_copy(update=change)
            error = self._refusal(TransparencyPolicy(log_public_key=PUBLIC, proofs=(forged,)))
            assert "not in the log" in str(error)

    def test_policy_file_names_proof_files(self, tmp_path: Path) -> None:
        proof = self._proof(tmp_path / "log")
        (tmp_path / "proof.json").write_text(proof.model_dump_json())
        (tmp_path / "root.der").write_bytes(self.OURS.root.der)
        import base64

        (tmp_path / "policy.toml").write_text(
            f'measurements = ["{MEASUREMENT.hex()}"]\nsoftware_root_file = "root.der"\n\n'
            f'[transparency]\nlog_public_key = "{base64.b64encode(PUBLIC).decode()}"\n'
            'proof_files = ["proof.json"]\n'
        )
        policy = load_policy(tmp_path / "policy.toml")
        assert policy == self.OURS.policy(
            transparency=TransparencyPolicy(log_public_key=PUBLIC, proofs=(proof,))
        )


class TestCommand:
    """`chiron log …`."""

    @pytest.fixture
    def image(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "requirements.lock").write_text("numpy==2\n")
        (tmp_path / "image" / "root").mkdir(parents=True)
        manifest = {"version": 1, "entry_point": ["/bin/python"], "environment": {}, "entries": []}
        (tmp_path / "image" / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path / "image"

    def test_a_build_is_logged_proved_and_verified(
        self, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["log", "create", "log", "--key", "key.pem"]) == 0
        public = capsys.readouterr().out.strip()
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        append = ["log", "append", "log", "--key", "key.pem", "--image", "image", "--json"]
        assert main([*append, "--revision", "a" * 40]) == 0
        first = json.loads(capsys.readouterr().out)
        (tmp_path / "head.json").write_text(json.dumps(first["head"]))
        assert first["entry"]["measurement"] == first["entry"]["image_measurement"]
        enclave = ["--mrenclave", "E" * 64]
        assert main([*append, "--revision", "b" * 40, *enclave]) == 1
        assert "--mrsigner" in capsys.readouterr().err
        assert main([*append, "--revision", "b" * 40, *enclave, "--mrsigner", "F" * 64]) == 0
        second = json.loads(capsys.readouterr().out)["entry"]
        assert (second["version"], second["measurement"], second["signer"]) == (2, "e" * 64, "f" * 64)
        assert first["entry"]["version"] == 1
        assert "signer" not in first["entry"]
        assert second["image_measurement"] == first["entry"]["image_measurement"]
        assert main(["log", "prove", "log", "--measurement", first["entry"]["measurement"]]) == 0
        (tmp_path / "inclusion.json").write_text(capsys.readouterr().out)
        assert main(["log", "prove", "log", "--since", "head.json"]) == 0
        (tmp_path / "consistency.json").write_text(capsys.readouterr().out)
        for proof in ("inclusion.json", "consistency.json"):
            assert main(["log", "verify", proof, "--log-key", public]) == 0
            assert main(["log", "verify", proof, "--log-key", "0" * 64]) == 1
            assert "[log-rejected]" in capsys.readouterr().err
        assert main(["log", "verify", "log", "--since", "head.json", "--log-key", public, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["entries"] == 2

    def test_rewritten_log_is_refused(self, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
        filled(Path("log"), 3)
        path = Path("log", ENTRIES)
        path.write_text(path.read_text().replace("0" * 39 + "1", "0" * 39 + "7"))
        assert main(["log", "verify", "log"]) == 1
        assert "[log-corrupted]" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["prove", "log"],
            ["prove", "log", "--since", "nothing.json"],
            ["verify", "requirements.lock"],
            ["verify", "requirements.lock", "--log-key", "xyz"],
            ["verify", "requirements.lock", "--log-key", "0" * 64],
            ["append", "log", "--key", "requirements.lock", "--image", "image", "--revision", "a" * 40],
            ["append", "log", "--key", "none.pem", "--image", "image", "--revision", "main"],
            ["append", "log", "--key", "none.pem", "--image", "image"],
            ["create", "log2", "--key", "requirements.lock"],
        ],
    )
    def test_what_cannot_be_meant_is_refused_with_a_code(
        self, image: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        filled(Path("log"), 1)
        assert main(["log", *arguments]) == 1
        assert "[configuration-invalid]" in capsys.readouterr().err


def test_head_is_signed_under_its_label_and_nothing_else(tmp_path: Path) -> None:
    from chiron.wire.encoding import canonical_json

    signed = filled(tmp_path, 1).head
    naked = signed.model_copy(update={"signature": KEY.sign(canonical_json(signed.head))})
    with pytest.raises(LogRefused):
        check_head(naked, PUBLIC)
