"""One of the two verifiers has a fault: it reads one field of a quote or certificate otherwise than it is.

Whichever of the two it is, and whichever field, the evidence is refused. So an attacker needs a fault in both
that comes to the same.
"""

from dataclasses import fields, replace
from enum import Enum
from typing import Any

import pytest

from chiron.runtime.attestation import pck, tcb
from chiron.runtime.attestation import verify_quote as verifier
from chiron.runtime.attestation.pck import Platform as Machine
from chiron.runtime.attestation.pck import SgxType
from chiron.runtime.attestation.quote import Header, Report, SgxQuote
from chiron.runtime.attestation.second_opinion import Opinion, Reading, second_opinion
from chiron.runtime.attestation.steps import Step
from chiron.runtime.attestation.tcb import TcbVerdict
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import EvidenceRefused
from chiron.wire.attestation import Evidence, Role, TcbStatus
from tests.support.forge import IDENTITY, JOB, NONCE, NOW, Platform, claims, platform_levels, with_collateral

OURS = Platform()
HONEST = OURS.evidence()
EXPECTED = Expected(Role.PARAMETER_SERVER, JOB, NONCE)
PARTS: dict[str, type[Header | Report | Machine]] = {"header": Header, "report": Report, "platform": Machine}
FIELDS = [(part, field.name) for part, kind in PARTS.items() for field in fields(kind)]
JUDGED = ("tcb", "platform_tcb", "quoting_enclave_tcb")


def other(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case Enum():
            return SgxType.SCALABLE
        case int():
            return value ^ 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case tuple():
            return (*value[1:], other(value[0]))
    raise AssertionError(value)


def with_fault(whole: Any, field: str) -> Any:
    return replace(whole, **{field: other(getattr(whole, field))})


def refused(evidence: Evidence = HONEST) -> Step:
    policy = OURS.policy(accepted_tcb=[status for status in TcbStatus if status is not TcbStatus.REVOKED])
    with pytest.raises(EvidenceRefused) as caught:
        verify(evidence, policy, EXPECTED, NOW)
    return caught.value.step


def dcap_qvl_reads(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Reading:
    """Let dcap-qvl read this instead; what it reads in truth."""
    opinion = second_opinion(HONEST.quote, HONEST.collateral, OURS.root.der, NOW)
    assert opinion.reading is not None
    faulty = Opinion(replace(opinion.reading, **changes))
    monkeypatch.setattr(verifier, "second_opinion", lambda *_: faulty)
    return opinion.reading


def test_without_a_fault_it_is_accepted() -> None:
    verify(HONEST, OURS.policy(), EXPECTED, NOW)


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_fault_of_dcap_qvl_in_a_field(monkeypatch: pytest.MonkeyPatch, part: str, field: str) -> None:
    honest = dcap_qvl_reads(monkeypatch)
    dcap_qvl_reads(monkeypatch, **{part: with_fault(getattr(honest, part), field)})
    assert refused() is Step.SIGNATURE


@pytest.mark.parametrize("field", JUDGED)
@pytest.mark.parametrize(
    "found", [(TcbStatus.SW_HARDENING_NEEDED, ()), (TcbStatus.UP_TO_DATE, ("INTEL-SA-00615",))]
)
def test_fault_of_dcap_qvl_in_the_patch_level(
    monkeypatch: pytest.MonkeyPatch, field: str, found: tuple[TcbStatus, tuple[str, ...]]
) -> None:
    dcap_qvl_reads(monkeypatch, **{field: found})
    assert refused() is Step.TCB_STATUS


@pytest.mark.parametrize(("part", "field"), FIELDS)
def test_fault_of_ours_in_a_field(monkeypatch: pytest.MonkeyPatch, part: str, field: str) -> None:
    if part == "platform":
        honest = pck.read_platform
        monkeypatch.setattr(
            verifier, "read_platform", lambda certificate: with_fault(honest(certificate), field)
        )
    else:
        parsed = SgxQuote.parse(HONEST.quote)
        faulty = replace(parsed, **{part: with_fault(getattr(parsed, part), field)})
        monkeypatch.setattr(SgxQuote, "parse", lambda _: faulty)
    assert refused() in (Step.TCB_INFO, Step.SIGNATURE)


@pytest.mark.parametrize("level", ["platform", "quoting_enclave"])
@pytest.mark.parametrize(
    "fault", [{"status": TcbStatus.UP_TO_DATE}, {"advisories": ()}], ids=["status", "advisories"]
)
def test_fault_of_ours_in_the_patch_level(
    monkeypatch: pytest.MonkeyPatch, level: str, fault: dict[str, Any]
) -> None:
    rows = platform_levels((1, "2025-12-01", "SWHardeningNeeded"))
    rows[0]["advisoryIDs"] = ["INTEL-SA-00615"]
    identity = [{"tcb": {"isvsvn": 1}, "tcbDate": "2025-12-01T00:00:00Z", "tcbStatus": "OutOfDate"}]
    identity[0]["advisoryIDs"] = ["INTEL-SA-00334"]
    changes = OURS.tcb_info(tcbLevels=rows) | OURS.qe_identity(tcbLevels=identity)
    honest = tcb.match

    def faulty(*arguments: Any) -> TcbVerdict:
        verdict = honest(*arguments)
        return replace(verdict, **{level: getattr(verdict, level).model_copy(update=fault)})

    monkeypatch.setattr(verifier, "match", faulty)
    assert refused(with_collateral(HONEST, **changes)) is Step.TCB_STATUS


def test_claims_that_only_a_faulty_reader_finds_in_the_quote(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's key instead of the enclave's, under an honest quote."""
    forged = claims(hpke_public_key=b"\x66" * 1216)
    honest = dcap_qvl_reads(monkeypatch)
    dcap_qvl_reads(monkeypatch, report=replace(honest.report, report_data=forged.report_data()))
    assert refused(HONEST.model_copy(update={"claims": forged})) is Step.SIGNATURE


def test_debug_enclave_that_one_reader_takes_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "attributes_fault", lambda _: None)
    assert refused(OURS.evidence(identity=replace(IDENTITY, debug=True))) is Step.SIGNATURE
