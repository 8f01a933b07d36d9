"""A policy that names machines accepts no other, whatever Intel certified."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from chiron.runtime.attestation.machines import check_machine, pins_a_machine
from chiron.runtime.attestation.pck import Platform as Machine
from chiron.runtime.attestation.pck import read_platform
from chiron.runtime.attestation.steps import Step, StepFailed
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import EvidenceRefused
from chiron.wire.attestation import Role
from tests.support.forge import JOB, NONCE, NOW, Platform

OURS = Platform()
MACHINE = read_platform(OURS.pck.certificate)
assert MACHINE.instance_id is not None
NAMES = {
    "ppid": MACHINE.ppid.hex(),
    "instance_id": MACHINE.instance_id.hex(),
    "fmspc": MACHINE.fmspc.hex(),
}
EXPECTED = Expected(Role.PARAMETER_SERVER, JOB, NONCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_named_machine_is_accepted_and_another_is_not(name: str) -> None:
    other = NAMES[name][:-1] + ("0" if NAMES[name][-1] != "0" else "1")
    verify(OURS.evidence(), OURS.policy(platforms=[{name: NAMES[name]}]), EXPECTED, NOW)
    with pytest.raises(EvidenceRefused) as caught:
        verify(OURS.evidence(), OURS.policy(platforms=[{name: other}]), EXPECTED, NOW)
    assert caught.value.step is Step.TCB_STATUS
    assert NAMES["ppid"] in str(caught.value)


def test_all_that_a_pin_names_must_be_the_machines_and_one_pin_is_enough() -> None:
    wrong = NAMES | {"fmspc": "0" * 12}
    with pytest.raises(StepFailed, match="names other platforms"):
        check_machine(MACHINE, OURS.policy(platforms=[wrong]))
    assert NAMES["ppid"] in check_machine(MACHINE, OURS.policy(platforms=[wrong, NAMES]))


def test_a_machine_without_an_instance_is_not_taken_for_a_pinned_one() -> None:
    policy = OURS.policy(platforms=[{"instance_id": NAMES["instance_id"]}])
    with pytest.raises(StepFailed):
        check_machine(replace(MACHINE, instance_id=None), policy)


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ("allow_smt", "smt"),
        ("allow_dynamic_platform", "dynamic_platform"),
        ("allow_cached_keys", "cached_keys"),
    ],
)
def test_what_must_be_off_must_be_certified_as_off(rule: str, fact: str) -> None:
    policy = OURS.policy(**{rule: False})

    def machine(value: bool | None) -> Machine:
        return replace(MACHINE, **{fact: value})  # type: ignore[arg-type]

    check_machine(machine(False), policy)
    for value in (True, None):
        with pytest.raises(StepFailed):
            check_machine(machine(value), policy)


@pytest.mark.parametrize(
    ("platforms", "pinned"),
    [
        ([], False),
        ([{"fmspc": NAMES["fmspc"]}], False),
        ([NAMES], True),
        ([NAMES, {"fmspc": NAMES["fmspc"]}], False),
        ([{"instance_id": NAMES["instance_id"]}], True),
    ],
)
def test_a_family_of_processors_pins_no_machine(platforms: list[Any], pinned: bool) -> None:
    assert pins_a_machine(OURS.policy(platforms=platforms)) is pinned


@pytest.mark.parametrize("pin", [{}, {"ppid": "00"}, {"ppid": "0" * 33}, {"city": "Ghent"}])
def test_a_pin_that_names_nothing_is_no_policy(pin: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OURS.policy(platforms=[pin])
