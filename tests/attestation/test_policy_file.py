"""Policy files: TOML and JSON say the same, and what cannot be meant is refused by the field's name."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chiron.client.errors import ConfigurationInvalid
from chiron.client.verifying import policy_of
from chiron.runtime.attestation.policy_file import MAX_FILE_BYTES, load_policy, load_root
from chiron.runtime.errors import PolicyInvalid
from chiron.wire.attestation import AttestationPolicy, TcbStatus
from tests.support.forge import Platform

MEASUREMENT = "0" * 63 + "1"
PLATFORM = Platform()
FULL = f"""
measurements = ["{MEASUREMENT}"]
signers = ["{"2" * 64}"]
product_id = 4
minimum_svn = 5
accepted_tcb = ["UpToDate", "ConfigurationNeeded"]
accepted_advisories = ["INTEL-SA-00615"]
grace_days = 30
minimum_tcb_evaluation = 17
allow_debug = false
software_root_file = "root.pem"
allow_smt = false
allow_dynamic_platform = false
allow_cached_keys = false

[[platforms]]
ppid = "{"3" * 32}"
instance_id = "{"4" * 32}"
fmspc = "{"5" * 12}"

[transparency]
log_public_key = "{"A" * 43}="
proof_files = []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root.pem").write_bytes(PLATFORM.root.pem)
    return tmp_path


def write(folder: Path, text: str, name: str = "policy.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_every_field_is_read(folder: Path) -> None:
    policy = load_policy(write(folder, FULL))
    assert policy.measurements == {MEASUREMENT}
    assert policy.signers == {"2" * 64}
    assert (policy.product_id, policy.minimum_svn) == (4, 5)
    assert policy.accepted_tcb == {TcbStatus.UP_TO_DATE, TcbStatus.CONFIGURATION_NEEDED}
    assert policy.accepted_advisories == frozenset({"INTEL-SA-00615"})
    assert (policy.grace_days, policy.minimum_tcb_evaluation) == (30, 17)
    assert policy.software_root == PLATFORM.root.der
    assert policy.transparency is not None
    assert policy.transparency.log_public_key == bytes(32)


def test_defaults_are_intels_root_and_no_more_than_hardening_needed(folder: Path) -> None:
    policy = load_policy(write(folder, f'measurements = ["{MEASUREMENT}"]'))
    assert policy == AttestationPolicy(measurements=frozenset({MEASUREMENT}))
    assert policy.software_root is None
    assert policy.accepted_tcb == {TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}
    assert not policy.allow_debug
    assert policy.grace_days == 0


def test_json_says_the_same_as_toml(folder: Path) -> None:
    toml = load_policy(write(folder, FULL))
    assert load_policy(write(folder, toml.model_dump_json(), "policy.json")) == toml


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "measurement or signer"),
        ("measurements = []", "measurement or signer"),
        ('measurements = ["xyz"]', "measurements.0"),
        (f'measurements = ["{MEASUREMENT}"]\nallow_debug = true', "allow_debug"),
        (f'measurements = ["{MEASUREMENT}"]\ngrace_days = 1000', "grace_days"),
        (f'measurements = ["{MEASUREMENT}"]\naccepted_tcb = ["Revoked!"]', "accepted_tcb"),
        (f'measurements = ["{MEASUREMENT}"]\ntrust_all = true', "trust_all"),
        (f'measurements = ["{MEASUREMENT}"]\nsoftware_root_file = "none.pem"', "none.pem"),
        (f'measurements = ["{MEASUREMENT}"]\nsoftware_root_file = 5', "named by a string"),
        (f'measurements = ["{MEASUREMENT}"]\nsoftware_root_file = "policy.toml"', "not a root certificate"),
        (f'measurements = ["{MEASUREMENT}"]\n[transparency]\nproof_files = []', "log_public_key"),
        (
            f'measurements = ["{MEASUREMENT}"]\n[transparency]\nlog_public_key = "{"A" * 43}="\n'
            'proof_files = ["root.pem"]',
            "not JSON",
        ),
        (
            f'measurements = ["{MEASUREMENT}"]\n[transparency]\nlog_public_key = "{"A" * 43}="\n'
            'proof_files = "root.pem"',
            "list of file names",
        ),
        ("measurements = [", "malformed"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(folder: Path, line: str, told: str) -> None:
    with pytest.raises(PolicyInvalid) as refused:
        load_policy(write(folder, line))
    assert told in str(refused.value)


def test_software_root_is_not_given_twice(folder: Path) -> None:
    both = json.loads(load_policy(write(folder, FULL)).model_dump_json())
    both["software_root_file"] = "root.pem"
    with pytest.raises(PolicyInvalid, match="both"):
        load_policy(write(folder, json.dumps(both), "policy.json"))


def test_oversized_file_is_not_read_whole(folder: Path) -> None:
    path = folder / "policy.toml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(PolicyInvalid, match="too large"):
        load_policy(path)


def test_root_is_read_as_pem_and_as_der(folder: Path) -> None:
    (folder / "root.der").write_bytes(PLATFORM.root.der)
    assert load_root(folder / "root.pem") == load_root(folder / "root.der") == PLATFORM.root.der


def test_client_takes_a_policy_file_and_options_on_top(folder: Path) -> None:
    path = write(folder, f'measurements = ["{MEASUREMENT}"]\ngrace_days = 9')
    policy = policy_of(["F" * 64], file=path, software_root=folder / "root.pem")
    assert policy.measurements == {"f" * 64}
    assert (policy.grace_days, policy.software_root) == (9, PLATFORM.root.der)
    with pytest.raises(ConfigurationInvalid, match="grace_days"):
        policy_of(file=write(folder, "grace_days = -1"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300), suffix=st.sampled_from([".toml", ".json"]))
def test_arbitrary_bytes_are_no_policy(folder: Path, raw: bytes, suffix: str) -> None:
    path = folder / f"arbitrary{suffix}"
    path.write_bytes(raw)
    with pytest.raises(PolicyInvalid):
        load_policy(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(fields={"software_root_file": "\0"})
@example(fields={"software_root_file": "\ud800"})
@given(
    fields=st.dictionaries(
        st.sampled_from([*AttestationPolicy.model_fields, "software_root_file"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.lists(st.text(max_size=9)),
    )
)
def test_arbitrary_fields_are_refused_cleanly(folder: Path, fields: dict[str, object]) -> None:
    path = write(folder, json.dumps(fields), "fields.json")
    with pytest.raises(PolicyInvalid):
        load_policy(path)
