"""`chiron attest verify --evidence … --owner`: whose model a predictor serves is compared, and told."""

import json

import pytest

from chiron.cli.application import EXIT_REJECTED, main
from chiron.runtime.attestation.platform import attest
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import Claims, Role
from tests.support.specs import JOB
from tests.support.tee import MEASUREMENT, DirectPlatform, open_tee

OWNER, ANOTHER = "e" * 64, "d" * 64


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What verifies the evidence of an open predictor."""
    directory = tmp_path_factory.mktemp("t")
    tee = open_tee(directory / "tee")
    claims = Claims(
        role=Role.PREDICTOR,
        job=JOB,
        hpke_public_key=bytes(PUBLIC_KEY_BYTES),
        tls_public_key_sha256="c" * 64,
        owner_key_sha256=OWNER,
        nonce=bytes(32),
    )
    file, root = directory / "evidence.json", directory / "root.pem"
    file.write_text(attest(DirectPlatform(tee), claims).model_dump_json())
    root.write_bytes(tee.root_pem)
    chosen = ["--role", "predictor", "--evidence", str(file), "--nonce", "00" * 32]
    return [
        "attest",
        "verify",
        JOB,
        *chosen,
        "-m",
        MEASUREMENT.hex(),
        "--trust-software-root",
        str(root),
    ]


def test_another_owner_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--owner", ANOTHER]) == EXIT_REJECTED
    told = capsys.readouterr().err
    assert "[evidence-key-binding]" in told
    assert "model of owner" not in told


def test_the_owner_is_told_on_a_line_of_its_own(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--owner", OWNER]):
        assert main([*arguments, *options]) == 0
        told = capsys.readouterr().err.replace("\n", "")
        assert f"model of owner: {OWNER}" in told
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_owner"] == OWNER
