"""Attacks on receipts: an altered one is refused whatever was altered, and none holds a key."""

import copy
import importlib.util
import json
import secrets
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from chiron import OwnerStore
from chiron.client.receipts import Verification, keep_verification, receipt_of, write_receipt
from chiron.client.store import JobRecord
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.grants import Grant
from tests.support.forge import NOW, Platform, claims
from tests.support.specs import job_spec

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_attestation.py"
NO_PROOFS: dict[str, Any] = {"proofs": []}
KEY, SHARE = secrets.token_bytes(32), secrets.token_bytes(32)


def check(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Isolated, and away from the checkout."""
    command = [sys.executable, "-I", str(SCRIPT), str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobRecord, str]:
    """A receipt's file, its owner's record, and the file with the software root."""
    folder = tmp_path_factory.mktemp("receipt")
    store, platform, spec = OwnerStore(folder), Platform(), job_spec()
    record = JobRecord(spec=spec, owner_key=PrivateKey.generate().private_bytes, share=SHARE)
    evidence = platform.evidence(claims(job=spec.job))
    at = int(NOW.timestamp())
    keep_verification(store, Verification(at=at, evidence=evidence, policy=platform.policy()))
    grant = Grant(
        job=spec.job,
        dataset_key=KEY,
        dataset_digest=spec.dataset.digest(),
        spec_digest=spec.digest(),
        attestation=platform.policy(),
        owner_public_key=record.private_key.public_bytes,
        owner_signing_key=record.signing_public_key,
        issued_at=at,
        expires_at=at + 60,
        share=SHARE,
    )
    write_receipt(store, record, grant, evidence.claims)
    path = folder / "out.json"
    path.write_text(receipt_of(store, spec.job).model_dump_json())
    (folder / "root.pem").write_bytes(platform.root.pem)
    return path, record, str(folder / "root.pem")


def test_an_honest_receipt_holds_without_our_package(made: tuple[Path, JobRecord, str]) -> None:
    path, record, root = made
    owner = record.signing_public_key.hex()
    answer = check(path, "--trust-software-root", root, "--owner", owner)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert owner in answer.stdout
    assert "import chiron" not in SCRIPT.read_text()
    assert "from chiron" not in SCRIPT.read_text()


def test_a_software_root_is_not_taken_for_intels(made: tuple[Path, JobRecord, str]) -> None:
    assert check(made[0]).returncode == 13


def test_another_owners_receipt_is_refused(made: tuple[Path, JobRecord, str]) -> None:
    assert check(made[0], "--trust-software-root", made[2], "--owner", "ab" * 32).returncode == 10


def test_a_receipt_holds_no_key(made: tuple[Path, JobRecord, str]) -> None:
    content = made[0].read_bytes()
    for secret in (KEY, SHARE, made[1].owner_key, made[1].signing_key.private_bytes_raw()):
        assert secret not in content
        assert b64encode(secret) not in content
        assert secret.hex().encode() not in content


@pytest.fixture(scope="module")
def script() -> Any:
    specification = importlib.util.spec_from_file_location("verify_attestation", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("place", "value", "number"),
    [
        (("verified", "at"), 2**32, 7),
        (("verified", "evidence", "claims", "nonce"), b64encode(bytes(32)).decode(), 12),
        (("verified", "policy", "measurements"), ["ab" * 32], 10),
        (("verified", "policy", "signers"), ["ab" * 32], 10),
        (("verified", "policy", "accepted_tcb"), ["SWHardeningNeeded"], 8),
        (("verified", "policy", "platforms"), [{"ppid": "ab" * 16}], 8),
        (("verified", "policy", "minimum_tcb_evaluation"), 10**6, 8),
        (
            ("verified", "policy", "transparency"),
            {"log_public_key": b64encode(KEY).decode(), "proofs": []},
            11,
        ),
        (("spec", "job"), "cd" * 16, 14),
    ],
)
def test_what_a_lying_owner_signs_must_still_follow_from_the_quote(
    made: tuple[Path, JobRecord, str],
    script: Any,
    tmp_path: Path,
    place: tuple[str, ...],
    value: Any,
    number: int,
) -> None:
    path, record, root = made
    signed = json.loads(path.read_text())
    put(signed["receipt"], place, value)
    content = b"chiron/v1/receipt\0" + script.canonical(signed["receipt"])
    signed["signature"] = b64encode(record.signing_key.sign(content)).decode()
    lie = tmp_path / "lie.json"
    lie.write_text(json.dumps(signed))
    assert script.main([str(lie), "--trust-software-root", root]) == 10 + number


def test_a_policy_that_names_no_code_is_refused(
    made: tuple[Path, JobRecord, str], script: Any, tmp_path: Path
) -> None:
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        script.main(
            [str(made[0]), "--trust-software-root", made[2], "--policy", str(tmp_path / "policy.json")]
        )
    assert ended.value.code == 2


def put(value: Any, place: tuple[Any, ...], new: Any) -> None:
    for name in place[:-1]:
        value = value[name]
    value[place[-1]] = new


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every single value stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for name, item in items for leaf in leaves(item, (*place, name))]
    return found or [place]


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        value = value[name]
    return value


def test_a_receipt_altered_in_any_field_is_refused(
    made: tuple[Path, JobRecord, str], script: Any, tmp_path: Path
) -> None:
    path, _, root = made
    honest = json.loads(path.read_text())
    altered = tmp_path / "altered.json"
    assert script.main([str(path), "--trust-software-root", root]) == 0
    for place in leaves(honest):
        changed, value = copy.deepcopy(honest), at(honest, place)
        put(changed, place, value + 1 if type(value) is int else f"{value}x")
        altered.write_text(json.dumps(changed))
        assert script.main([str(altered), "--trust-software-root", root]) in (3, 10), place


SCALARS = st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.booleans() | st.none()


@given(value=st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_written_as_rfc_8785_says(script: Any, value: Any) -> None:
    assert script.canonical(value) == rfc8785.dumps(value)
