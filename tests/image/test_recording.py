"""Builds append to the transparency log by themselves, and the proof lies beside the image."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chiron.cli.application import main
from chiron.enclave_image.errors import LogCorrupted, SourceUnknown
from chiron.enclave_image.manifest import INCLUSION_PROOF, read_proof
from chiron.enclave_image.measurement import measure
from chiron.enclave_image.recording import clean_revision
from chiron.enclave_image.sigstruct import read_instance
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.runtime.transparency import check_inclusion
from tests.image.test_sigstruct import MRENCLAVE, sigstruct

REVISION = "a" * 40


@pytest.fixture
def built(image: Path, tmp_path: Path) -> Path:
    """A copy of the image that the builder finds to be what it would build."""
    copy = tmp_path / "image"
    shutil.copytree(image, copy, symlinks=True, copy_function=os.link)
    return copy


@pytest.fixture
def log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Options that name a fresh log and its key."""
    assert main(["log", "create", str(tmp_path / "log"), "--key", str(tmp_path / "key.pem")]) == 0
    capsys.readouterr()
    return ["--log", str(tmp_path / "log"), "--log-key", str(tmp_path / "key.pem")]


def test_build_records_itself_once_and_leaves_its_proof(
    built: Path, log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["image", "build", str(built), *log, "--revision", REVISION, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    opened = TransparencyLog.open(Path(log[1]))
    (entry,) = opened.entries
    assert entry.measurement == entry.image_measurement == told["measurement"] == measure(built)
    assert entry.source_revision == REVISION
    proof = read_proof(built)
    assert proof is not None
    assert proof.entry == entry
    check_inclusion(proof, opened.public_key)


def test_build_without_a_log_has_no_proof(image: Path) -> None:
    assert read_proof(image) is None


def test_occlum_instance_is_recorded_under_its_mrenclave(
    built: Path, log: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = tmp_path / "instance"
    (instance / "build/lib").mkdir(parents=True)
    (instance / "build/lib/libocclum-libos.signed.so").write_bytes(sigstruct())
    append = ["log", "append", log[1], "--key", log[3], "--revision", REVISION, "--image", str(built)]
    assert main([*append, "--instance", str(instance)]) == 0
    proof = read_proof(instance)
    assert proof is not None
    assert proof.entry.measurement == MRENCLAVE.hex()
    assert proof.entry.image_measurement == measure(built)
    assert proof.entry.signer == read_instance(instance).mrsigner
    for wrong in ("--mrenclave", "--mrsigner"):
        assert main([*append, "--instance", str(instance), wrong, "0" * 64]) == 1
        assert "[configuration-invalid]" in capsys.readouterr().err


@pytest.mark.parametrize("missing", [["--log", "log"], ["--log-key", "key.pem"], ["--revision", REVISION]])
def test_half_of_the_options_is_refused_before_anything_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: list[str]
) -> None:
    assert main(["image", "build", str(tmp_path / "image"), *missing]) == 1
    assert "[configuration-invalid]" in capsys.readouterr().err
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("content", ["", "{}", "x" * 100_000])
def test_proof_that_is_none_is_noticed(tmp_path: Path, content: str) -> None:
    (tmp_path / INCLUSION_PROOF).write_text(content)
    with pytest.raises(LogCorrupted):
        read_proof(tmp_path)


def test_revision_is_told_only_of_a_source_that_is_committed(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    with pytest.raises(SourceUnknown, match="no git checkout"):
        clean_revision(tmp_path)
    (tmp_path / "runtime").mkdir()
    source = tmp_path / "runtime" / "roles.py"
    source.write_text("one = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    (tmp_path / "notes.md").write_text("not built\n")
    revision = clean_revision(tmp_path)
    assert len(revision) == 40
    # Packages that are installed inside somebody's checkout are not made of that.
    (tmp_path / "site-packages").mkdir()
    with pytest.raises(SourceUnknown, match="of its own"):
        clean_revision(tmp_path / "site-packages")
    (tmp_path / "runtime" / "extra.py").write_text("two = 2\n")
    with pytest.raises(SourceUnknown, match=r"extra\.py"):
        clean_revision(tmp_path)
    (tmp_path / "runtime" / "extra.py").unlink()
    source.write_text("one = 2\n")
    with pytest.raises(SourceUnknown, match=r"roles\.py"):
        clean_revision(tmp_path)
