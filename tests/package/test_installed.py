"""Wheel and sdist, each installed into a bare environment and used there."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from chiron.enclave_image.measurement import measure
from tests.package.building import PROJECT, ROOT, Archives, Environment
from tests.support.genuine import IN_DATE, MEASUREMENT, SIGNER, evidence

USE = 'import chiron; from chiron import Client; print(Client.__module__.startswith("chiron.client."))'
OTHERS = ("api.py", "ps.py", "runtime.py", "wire.py", "wasm_sandbox.py", "enclave_image.py", "builder_kit.py")
"""Files of hers, named as rooms of ours."""
VERIFY = """
import sys
from datetime import datetime
from pathlib import Path
from chiron.runtime.attestation.verify import verify_quote
from chiron.wire.attestation import AttestationPolicy, Collateral

quote, collateral, measurement, signer, at = sys.argv[1:]
policy = AttestationPolicy(
    measurements=frozenset({measurement}),
    signers=frozenset({signer}),
    accepted_tcb=frozenset({"ConfigurationAndSWHardeningNeeded"}),
)
checked = Collateral.model_validate_json(Path(collateral).read_bytes())
verified = verify_quote(Path(quote).read_bytes(), checked, policy, datetime.fromisoformat(at))
print(verified.measurement)
"""
BUILD_IMAGE = """
import sys
from pathlib import Path
from chiron.enclave_image.build import build_image
print(build_image(Path(sys.argv[1])).measurement)
"""
HEAVY = ("sqlalchemy", "onnx", "onnxruntime", "sklearn", "componentize_py", "wasmtime", "pyarrow", "PIL")
IMPORT_CLIENT = f"""
import importlib, importlib.util, json, pkgutil
import chiron.client, chiron.cli.application
missing = {{}}
for found in pkgutil.walk_packages(chiron.client.__path__, "chiron.client."):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        missing[found.name] = error.name
assert not [name for name in {HEAVY!r} if importlib.util.find_spec(name)], "the environment is not bare"
print(json.dumps(missing))
"""


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(
    request: pytest.FixtureRequest, archives: Archives, environment: Callable[..., Environment]
) -> Environment:
    """The data owner's: no extra, from the wheel or from what the sdist gives."""
    return environment(archives.wheel if request.param == "wheel" else archives.rebuilt)


def test_the_command_tells_its_version(installed: Environment) -> None:
    told = installed.run("chiron", "--version")
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == f"chiron {metadata.version(PROJECT)}"


def test_it_is_used_beside_files_that_are_named_as_its_rooms(installed: Environment, tmp_path: Path) -> None:
    _beside(tmp_path)
    used = installed.run("python", "-c", USE, cwd=tmp_path)
    assert used.stdout.split() == ["True"], used.stderr


def test_the_checkout_is_used_beside_such_files_too(tmp_path: Path) -> None:
    _beside(tmp_path)
    used = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert used.stdout.split() == ["True"], used.stderr


def _beside(folder: Path) -> None:
    for name in OTHERS:
        (folder / name).write_text("raise SystemExit('her own file was imported')\n")


def test_the_client_needs_no_extra_but_for_tables_and_images(installed: Environment) -> None:
    imported = installed.run("python", "-c", IMPORT_CLIENT)
    assert imported.returncode == 0, imported.stderr
    missing = json.loads(imported.stdout)
    assert set(missing.values()) == {"pyarrow", "PIL"}
    assert all(module.startswith("chiron.client.datasets.") for module in missing)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["image", "build", "image"], "operator"),
        (["serve"], "operator"),
        (["builder", "check", "builder.wasm"], "builder"),
        (["data", "encrypt", "table.csv", "--target", "y", "--out", "encrypted"], "tables"),
        (["data", "encrypt", "images.zip", "--out", "encrypted"], "images"),
        (["data", "encrypt", "sklearn:digits", "--out", "encrypted"], "demo"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_extra_is_named(
    installed: Environment, tmp_path: Path, command: list[str], extra: str
) -> None:
    for name in ("builder.wasm", "table.csv", "images.zip"):
        (tmp_path / name).touch()
    refused = installed.run("chiron", *command, cwd=tmp_path)
    assert refused.returncode == 1, refused.stderr
    assert f"chiron-ml[{extra}]" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr


def test_a_builder_project_is_made_from_the_templates(installed: Environment, tmp_path: Path) -> None:
    made = installed.run("chiron", "builder", "new", tmp_path / "mine")
    assert made.returncode == 0, made.stderr
    assert {"README.md", "builder.toml", "manifest.json", ".gitignore"} <= {
        file.name for file in (tmp_path / "mine").iterdir()
    }


def test_genuine_evidence_is_verified(installed: Environment) -> None:
    """Under Intel's root certificate, which is in the archive."""
    files = [evidence("sgx_quote"), evidence("sgx_quote_collateral.json")]
    verified = installed.run("python", "-c", VERIFY, *files, MEASUREMENT, SIGNER, IN_DATE)
    assert verified.stdout.strip() == MEASUREMENT, verified.stderr


def test_the_auditors_script_runs_where_nothing_of_ours_is(tmp_path: Path) -> None:
    """With the two packages that it names, and what those need."""
    bare = Environment(tmp_path / "environment")
    for name in ("cryptography", "dcap-qvl", "cffi", "pycparser"):
        bare.link(metadata.distribution(name))
    assert bare.run("python", "-c", "import chiron").returncode != 0
    assert bare.run("python", "-c", "import pydantic").returncode != 0
    script = shutil.copy(ROOT / "scripts" / "verify_attestation.py", tmp_path)
    quote: list[str | Path] = ["--quote", evidence("sgx_quote")]
    quote += ["--collateral", evidence("sgx_quote_collateral.json")]
    policy = [
        "--mrenclave",
        MEASUREMENT,
        "--accept-tcb",
        "ConfigurationAndSWHardeningNeeded",
        "--at",
        IN_DATE,
    ]
    checked = bare.run("python", script, *quote, *policy, "--mrsigner", SIGNER)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert bare.run("python", script, *quote, *policy, "--mrsigner", "ab" * 32).returncode == 20


def test_the_image_is_that_of_the_checkout(
    archives: Archives, environment: Callable[..., Environment], image: Path, tmp_path: Path
) -> None:
    """An owner who installs the wheel measures what a gateway runs from its checkout."""
    built = environment(archives.wheel, "operator").run("python", "-c", BUILD_IMAGE, tmp_path / "image")
    assert built.stdout.strip() == measure(image), built.stderr
