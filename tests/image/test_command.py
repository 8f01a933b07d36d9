"""`chiron image`, as it is typed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from chiron.cli.application import main
from chiron.enclave_image.manifest import MANIFEST
from chiron.enclave_image.measurement import measure


def test_measures_an_image_in_words_and_for_machines(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "measure", str(image)]) == 0
    assert capsys.readouterr().out == f"{measure(image)}\n"
    assert main(["image", "measure", str(image), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["measurement"] == measure(image)
    assert told["files"] > 1000
    assert told["directory"] == str(image)


def test_says_that_a_directory_holds_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "measure", str(tmp_path)]) == 1
    assert "[image-invalid]" in capsys.readouterr().err


def test_writes_what_occlum_takes_and_warns_of_a_debuggable_enclave(
    occlum_image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "occlum"
    command = ["image", "occlum", str(output), "--image", str(occlum_image), "--glibc", "99.0"]
    command.append("--development")
    assert main(command) == 0
    assert "WARNING: a debuggable enclave" in capsys.readouterr().err
    assert json.loads((output / "Occlum.json").read_text())["metadata"]["debuggable"]
    assert (output / "bom.yaml").exists()


def test_refuses_what_occlum_would_refuse(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["image", "occlum", str(tmp_path / "occlum"), "--image", str(image), "--glibc", "2.2"]
    assert main(command) == 1
    assert "[occlum-refuses]" in capsys.readouterr().err
    assert not (tmp_path / "occlum").exists()


def test_a_manifest_with_another_environment_is_refused_for_occlum(
    occlum_image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "image"
    changed.mkdir()
    (changed / "root").symlink_to(occlum_image / "root")
    shutil.copy(occlum_image / MANIFEST, changed)
    text = (changed / MANIFEST).read_text()
    (changed / MANIFEST).write_text(text.replace('"LANG": "C.UTF-8"', '"LANG": "C"'))
    command = ["image", "occlum", str(tmp_path / "occlum"), "--image", str(changed), "--glibc", "99.0"]
    assert main(command) == 1
    assert "env.default differs" in capsys.readouterr().err


def test_checkout_is_built_by_its_own_code_and_measured(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkout whose build is quick: it copies the image that all tests share."""
    checkout = tmp_path / "checkout"
    (checkout / "enclave_image").mkdir(parents=True)
    (checkout / "chiron").mkdir()
    (checkout / "chiron" / "__init__.py").touch()
    (checkout / "chiron" / "enclave_image").symlink_to("../enclave_image")
    (checkout / "enclave_image" / "build.py").write_text(
        f"import os, shutil\ndef build_image(to):\n"
        f"    shutil.copytree({str(image)!r}, to, symlinks=True, copy_function=os.link)\n"
    )
    assert main(["image", "measure", str(checkout)]) == 1
    assert "scripts/setup" in capsys.readouterr().err
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert main(["image", "measure", str(checkout)]) == 0
    assert capsys.readouterr().out.strip() == measure(image)
    (checkout / "enclave_image" / "build.py").write_text("raise SystemExit(1)\n")
    assert main(["image", "measure", str(checkout)]) == 1
