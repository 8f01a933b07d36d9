"""Attacks on `scripts/verify_attestation.py`: it must refuse whatever the package's verifier refuses.

The two share no code. What stands below is given to both.
"""

import importlib.util
import json
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.enclave_image.recording import Recorder
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.runtime.attestation.attributes import attributes_fault
from chiron.runtime.attestation.collateral import PlatformLevel, PlatformSvns, QeLevel, QeSvn
from chiron.runtime.attestation.quote import Report
from chiron.runtime.attestation.tcb import TcbVerdict
from chiron.runtime.attestation.verify import verify_quote
from chiron.runtime.errors import EvidenceRefused
from chiron.wire.attestation import AttestationPolicy, Collateral, TcbStatus
from tests.support.genuine import IN_DATE, SIGNER, evidence
from tests.support.genuine import MEASUREMENT as SAMPLE

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_attestation.py"
PPID, FMSPC = "d04ec06d4e6d92dc90d0ad3cf5ee2ddf", "00a067110000"
HONEST = {
    "measurements": [SAMPLE],
    "signers": [SIGNER],
    "accepted_tcb": ["ConfigurationAndSWHardeningNeeded"],
}
CASES: list[tuple[dict[str, Any], int]] = [
    ({}, 0),
    ({"signers": []}, 10),
    ({"signers": ["ab" * 32]}, 10),
    ({"measurements": ["ab" * 32]}, 10),
    ({"measurements": []}, 0),
    ({"measurements": [], "product_id": 1}, 10),
    ({"minimum_svn": 1}, 10),
    ({"accepted_tcb": ["UpToDate", "OutOfDate"]}, 8),
    ({"accepted_advisories": ["INTEL-SA-00289"]}, 8),
    ({"accepted_advisories": ["INTEL-SA-00289", "INTEL-SA-00615"]}, 0),
    ({"minimum_tcb_evaluation": 17}, 0),
    ({"minimum_tcb_evaluation": 18}, 8),
    ({"platforms": [{"ppid": PPID, "fmspc": FMSPC}]}, 0),
    ({"platforms": [{"ppid": PPID, "fmspc": "ab" * 6}]}, 8),
    ({"platforms": [{"ppid": "ab" * 16}, {"instance_id": "ab" * 16}]}, 8),
    ({"allow_smt": False}, 8),
    ({"allow_dynamic_platform": False}, 8),
    ({"allow_cached_keys": False}, 8),
    ({"transparency": {"log_public_key": b64encode(bytes(32)).decode(), "proofs": []}}, 11),
]


@pytest.fixture(scope="module")
def script() -> Any:
    specification = importlib.util.spec_from_file_location("verify_attestation", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def ours(quote: bytes, collateral: Collateral, fields: dict[str, Any], at: datetime) -> bool:
    try:
        verify_quote(quote, collateral, AttestationPolicy.model_validate_json(json.dumps(fields)), at)
    except EvidenceRefused:
        return False
    return True


def theirs(script: Any, quote: bytes, collateral: Collateral, fields: dict[str, Any], at: datetime) -> int:
    """0, or the step that refused."""
    steps, policy = script.Steps(), script.POLICY_DEFAULTS | fields
    assert script.policy_fault(policy) is None
    try:
        script.check_quote(steps, quote, json.loads(collateral.model_dump_json()), policy, at)
    except script.Refused:
        return int(steps.taken[-1][0])
    return 0


@pytest.mark.parametrize(("changes", "step"), CASES)
def test_genuine_evidence_is_judged_alike(script: Any, changes: dict[str, Any], step: int) -> None:
    quote = evidence("sgx_quote").read_bytes()
    collateral = Collateral.model_validate_json(evidence("sgx_quote_collateral.json").read_bytes())
    at, fields = datetime.fromisoformat(IN_DATE), HONEST | changes
    assert theirs(script, quote, collateral, fields, at) == step
    assert ours(quote, collateral, fields, at) == (step == 0)


def test_a_genuine_quote_altered_in_any_byte_is_refused(script: Any) -> None:
    """Every 16th byte of header, report and signatures."""
    quote = evidence("sgx_quote").read_bytes()
    collateral = Collateral.model_validate_json(evidence("sgx_quote_collateral.json").read_bytes())
    for place in range(0, 1020, 16):
        altered = bytearray(quote)
        altered[place] ^= 1
        assert theirs(script, bytes(altered), collateral, HONEST, datetime.fromisoformat(IN_DATE)), place
    assert theirs(script, quote + b"\0", collateral, HONEST, datetime.fromisoformat(IN_DATE)) == 2


@pytest.mark.parametrize(
    "field",
    ["tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature", "pck_crl", "root_ca_crl"],
)
def test_genuine_collateral_altered_in_any_field_is_refused(script: Any, field: str) -> None:
    told = json.loads(evidence("sgx_quote_collateral.json").read_bytes())
    told[field] = told[field].replace("0", "1", 1)
    altered = Collateral.model_validate_json(json.dumps(told))
    quote = evidence("sgx_quote").read_bytes()
    with suppress(ValueError):  # dcap-qvl cannot even read it: exit code 3
        assert theirs(script, quote, altered, HONEST, datetime.fromisoformat(IN_DATE)) == 7


def test_attributes_are_judged_alike_in_every_bit(script: Any) -> None:
    honest = Report.parse(evidence("sgx_quote").read_bytes()[48:432])
    bits = [1 << bit for bit in range(64)]
    flags, states = [5, *(5 ^ bit for bit in bits)], [3, 7, *(0xE7 ^ bit for bit in bits)]
    states += [0x18, 0x1B, 0xE3, 0x60003, 0x20003, 0x80003, 0xE02FF]
    told = [(flag, 3, 0) for flag in flags] + [(5, state, 0) for state in states]
    for flag, state, misc in [*told, *((5, 3, 1 << bit) for bit in range(32))]:
        attributes = flag.to_bytes(8, "little") + state.to_bytes(8, "little")
        fault = attributes_fault(replace(honest, attributes=attributes, misc_select=misc))
        alike = script.check_attributes({"attributes": attributes.hex(), "misc_select": misc})
        assert alike[0] == (fault is None), (flag, state, misc)


@pytest.mark.parametrize("days", [0, 29, 31, 730])
@pytest.mark.parametrize("status", list(TcbStatus))
@pytest.mark.parametrize("enclave", ["UpToDate", "OutOfDate", "Revoked"])
def test_grace_is_counted_from_the_levels_date(
    script: Any, days: int, status: TcbStatus, enclave: str
) -> None:
    at = datetime(2026, 2, 1, tzinfo=UTC)
    date = at - timedelta(days=30)
    svns = PlatformSvns.model_construct(components=(), pce=0)
    platform = PlatformLevel.model_construct(date=date, status=status, tcb=svns)
    quoting = QeLevel.model_construct(date=date, status=TcbStatus(enclave), tcb=QeSvn.model_construct(svn=0))
    wanted = TcbVerdict(platform, quoting).status_within(timedelta(days=days), at)
    levels = ({"tcbDate": date.isoformat(), "tcbStatus": told} for told in (status.value, enclave))
    assert script.converge(*(script.forgiven(level, days, at) for level in levels)) == wanted


def test_only_the_logs_own_proof_for_that_code_passes(script: Any, tmp_path: Path) -> None:
    """Logs of one to seven entries: every entry's proof leads to the root, and no other's does."""
    key, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    log = tmp_path / "log"
    TransparencyLog.create(log, key.public_key().public_bytes_raw())
    recorder = Recorder(log, key, "a" * 40, "0" * 64)
    for number in range(1, 8):
        code = f"{number:02x}" * 32
        proof = json.loads(recorder.record(code, tmp_path, datetime.now(UTC)).model_dump_json())
        for trusted in (key, stranger):
            public = b64encode(trusted.public_key().public_bytes_raw()).decode()
            policy = {"transparency": {"log_public_key": public, "proofs": [proof]}}
            report = {"mr_enclave": code, "mr_signer": "00" * 32}
            assert script.check_log(report, policy)[0] == (trusted is key)
            assert not script.check_log(report | {"mr_enclave": "ff" * 32}, policy)[0]
            moved = {**proof, "index": proof["index"] + 1}
            policy["transparency"]["proofs"] = [moved]
            assert not script.check_log(report, policy)[0]
