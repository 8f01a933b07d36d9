"""Genuine evidence of Intel's hardware. It is public and not ours to commit.

The files lie in the folder that CHIRON_EVIDENCE names, or in folders beside the checkout. A test asks for
them by name when it runs. Where one is absent the test is skipped, and the reason says in one line what to
fetch, from where and where to put it. In continuous integration (CI=true) the test fails instead.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = os.environ.get("CHIRON_EVIDENCE")
BESIDE = (ROOT.parent / "shared" / "data" / "dcap", ROOT.parent / "shared" / "cases" / "attestation-genuine")

MEASUREMENT = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
"""MRENCLAVE of `sgx_quote`."""
SIGNER = "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
"""MRSIGNER of `sgx_quote`."""
IN_DATE = "2025-06-25T00:00:00Z"
"""A time at which its collateral holds: 2025-06-19 to 2025-07-19."""


class Origin(NamedTuple):
    """Where a file is published, and which content of it the tests are written for."""

    published: str
    sha256: str
    whole: bool = True
    """Published as it is. What someone must put together first is not demanded in continuous integration."""


_SAMPLES = "github.com/Phala-Network/dcap-qvl, tag v0.5.2, folder sample"
_OCCLUM = "github.com/confidential-containers/trustee, tag v0.21.0, deps/verifier/test_data/occlum_quote.dat"
_AUGUST = "Intel's collateral of August 2025 for FMSPC 00606A000000, joined as in sgx_quote_collateral.json"
_V3 = "a quote of version 3 that is in public DCAP test suites, MRENCLAVE a4f45c39…"

FILES = {
    "sgx_quote": Origin(_SAMPLES, "f8b81014b6e443609746822194910f5dc1c92c322fa0584298d1e33e505ca3b5"),
    "sgx_quote_collateral.json": Origin(
        _SAMPLES, "bdd694bbe50f3a2a1cfe12f9e2bd83125921107a368edcf10780a5523b8501ce"
    ),
    "tdx_quote": Origin(_SAMPLES, "c42f9164325024bca2757bc8819b11879a0a369132ea4e2b7c85df4805ea72db"),
    "tdx_quote_collateral.json": Origin(
        _SAMPLES, "b0a5f5fd620a8881b1eda45261fdf30dd930b49aff93231556645c81fcb4c0bc"
    ),
    "occlum_quote_debug": Origin(
        _OCCLUM, "77bcbdfa9c1abb98fd19d60f815b049d187e4e7495203a2e13aeac91fb9f9772", whole=False
    ),
    "sgx_quote_v3": Origin(
        _V3, "c81a90ee23bbc132b4073fe78ad2a58bac8a538a56e4b97b4557216353a0e511", whole=False
    ),
    "aug2025.json": Origin(
        _AUGUST, "2508a4c9a85a48a270448925f3e57ef93c591e3739cb47ca4e4864054d45a388", whole=False
    ),
}


def evidence(name: str) -> Path:
    """The file of that name; the test that asks is skipped where it is absent, or fails in CI."""
    origin = FILES[name]
    folders = (Path(CHOSEN),) if CHOSEN else BESIDE
    for folder in folders:
        if (folder / name).is_file():
            return _unchanged(folder / name, origin)
    advice = f"no genuine evidence: put {name} ({origin.published}) into the folder named in CHIRON_EVIDENCE"
    if os.environ.get("CI") == "true" and origin.whole:
        pytest.fail(advice, pytrace=False)
    pytest.skip(advice)


def _unchanged(file: Path, origin: Origin) -> Path:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != origin.sha256:
        pytest.fail(f"{file} is not what the tests are written for: SHA-256 {found}, not {origin.sha256}")
    return file
