"""Wheel and sdist, each installed into a bare environment and used there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chiron.enclave_image.measurement import measure
from tests.package.building import Archives, Environment
from tests.support.genuine import IN_DATE, MEASUREMENT, evidence

USE = "import chiron; from chiron import Client; print(chiron.__name__, Client.__module__)"
OTHERS = ("api.py", "ps.py", "runtime.py", "wire.py", "wasm_sandbox.py", "enclave_image.py", "builder_kit.py")
"""Files of hers, named as rooms of ours."""
VERIFY = """
import sys
from datetime import datetime
from pathlib import Path
from chiron.runtime.attestation.verify import verify_quote
from chiron.wire.attestation import AttestationPolicy, Collateral

quote, collateral, measurement, at = sys.argv[1:]
policy = AttestationPolicy(
    measurements=frozenset({measurement}), accepted_tcb=frozenset({"ConfigurationAndSWHardeningNeeded"})
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


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(
    request: pytest.FixtureRequest, archives: Archives, environment: Callable[..., Environment]
) -> Environment:
    """The data owner's: no extra, from the wheel or from what the sdist gives."""
    return environment(archives.wheel if request.param == "wheel" else archives.rebuilt)


def test_it_is_used_beside_files_that_are_named_as_its_rooms(installed: Environment, tmp_path: Path) -> None:
    _beside(tmp_path)
    used = installed.run("python", "-c", USE, cwd=tmp_path)
    assert used.stdout.split() == ["chiron", "chiron.client.client"], used.stderr


def test_the_checkout_is_used_beside_such_files_too(tmp_path: Path) -> None:
    _beside(tmp_path)
    used = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert used.stdout.split() == ["chiron", "chiron.client.client"], used.stderr


def _beside(folder: Path) -> None:
    for name in OTHERS:
        (folder / name).write_text("raise SystemExit('her own file was imported')\n")


def test_genuine_evidence_is_verified(installed: Environment) -> None:
    """Under Intel's root certificate, which is in the archive."""
    files = [evidence("sgx_quote"), evidence("sgx_quote_collateral.json")]
    verified = installed.run("python", "-c", VERIFY, *files, MEASUREMENT, IN_DATE)
    assert verified.stdout.strip() == MEASUREMENT, verified.stderr


def test_the_image_is_that_of_the_checkout(
    archives: Archives, environment: Callable[..., Environment], image: Path, tmp_path: Path
) -> None:
    """An owner who installs the wheel measures what a gateway runs from its checkout."""
    built = environment(archives.wheel, "operator").run("python", "-c", BUILD_IMAGE, tmp_path / "image")
    assert built.stdout.strip() == measure(image), built.stderr
