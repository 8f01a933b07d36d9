"""The verifier beyond forgeries: genuine Intel evidence, policies, grace, key binding, dcap-qvl."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import dcap_qvl
import pytest
from pydantic import ValidationError

from chiron.runtime.attestation.platform import RefusingPlatform, SealingPolicy
from chiron.runtime.attestation.quote import SgxQuote
from chiron.runtime.attestation.steps import Step
from chiron.runtime.attestation.tcb import converge
from chiron.runtime.attestation.verify import Expected, VerifiedQuote, verify, verify_quote
from chiron.runtime.attestation.verify_quote import INTEL_ROOT_DER
from chiron.runtime.errors import EvidenceRefused, PlatformUnavailable
from chiron.wire.attestation import AttestationPolicy, Claims, Collateral, Evidence, Role, TcbStatus
from tests.support import genuine
from tests.support.forge import (
    IDENTITY,
    JOB,
    MEASUREMENT,
    NONCE,
    NOW,
    Platform,
    claims,
    platform_levels,
    qe_levels,
    with_collateral,
)

IN_DATE = datetime.fromisoformat(genuine.IN_DATE)
AUGUST = datetime(2025, 8, 20, tzinfo=UTC)
EXPECTED = Expected(Role.PARAMETER_SERVER, JOB, NONCE)
OURS = Platform()
HONEST = OURS.evidence()


def refusal(evidence: Evidence, policy: AttestationPolicy, expected: Expected = EXPECTED) -> EvidenceRefused:
    with pytest.raises(EvidenceRefused) as refused:
        verify(evidence, policy, expected, NOW)
    return refused.value


class TestGenuineEvidence:
    """Made by Intel's hardware and signed under Intel's root."""

    def _verify(
        self, name: str = "sgx", *, at: datetime = IN_DATE, flip: int = -1, **policy: Any
    ) -> VerifiedQuote:
        quote = bytearray(genuine.evidence(f"{name}_quote").read_bytes())
        if flip >= 0:
            quote[flip] ^= 1
        raw = genuine.evidence(f"{name}_quote_collateral.json").read_bytes()
        collateral = Collateral.model_validate_json(raw)
        accepted = {"accepted_tcb": ["ConfigurationAndSWHardeningNeeded"]}
        code = {"measurements": [genuine.MEASUREMENT], "signers": [genuine.SIGNER]}
        fields = code | accepted | policy
        return verify_quote(bytes(quote), collateral, AttestationPolicy.model_validate(fields), at)

    def _refusal(self, **options: Any) -> EvidenceRefused:
        with pytest.raises(EvidenceRefused) as refused:
            self._verify(**options)
        return refused.value

    def test_is_accepted_in_its_time_by_a_policy_that_accepts_its_tcb(self) -> None:
        verified = self._verify()
        assert verified.measurement == genuine.MEASUREMENT
        assert verified.tcb_status is TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
        assert verified.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
        assert verified.report_data.startswith(b"Hello, world!")

    def test_is_refused_at_the_tcb_step_by_the_default_policy(self) -> None:
        default = AttestationPolicy(measurements=frozenset({genuine.MEASUREMENT}))
        assert self._refusal(accepted_tcb=default.accepted_tcb).step is Step.TCB_STATUS

    def test_is_refused_for_an_advisory_that_is_not_accepted(self) -> None:
        error = self._refusal(accepted_advisories=["INTEL-SA-00289"])
        assert error.step is Step.TCB_STATUS
        assert "not accepted: INTEL-SA-00615" in str(error)

    @pytest.mark.parametrize(
        ("at", "step"),
        [
            (datetime(2025, 6, 1, tzinfo=UTC), Step.REVOCATION),
            (datetime(2025, 8, 1, tzinfo=UTC), Step.TCB_INFO),
            (datetime(2026, 11, 24, tzinfo=UTC), Step.REVOCATION),
        ],
    )
    def test_is_refused_out_of_its_time(self, at: datetime, step: Step) -> None:
        error = self._refusal(at=at)
        assert error.step in (step, Step.REVOCATION, Step.TCB_INFO)
        assert "expired" in str(error) or "future" in str(error)

    def test_is_refused_at_the_signature_with_one_flipped_byte(self) -> None:
        for place in (48, 48 + 64, 48 + 320, 440, 564 + 320, 950):
            assert self._refusal(flip=place).step is Step.SIGNATURE

    def test_tdx_quote_is_refused_at_the_tee_type(self) -> None:
        assert self._refusal(name="tdx").step is Step.TEE_TYPE

    def test_is_refused_under_a_software_root(self) -> None:
        assert self._refusal(software_root=OURS.root.der).step is Step.CERTIFICATE_CHAIN

    def test_is_refused_for_another_measurement(self) -> None:
        assert self._refusal(measurements=["0" * 64]).step is Step.MEASUREMENT

    def test_is_refused_for_another_signer(self) -> None:
        assert self._refusal(signers=["0" * 64]).step is Step.MEASUREMENT

    @pytest.mark.parametrize("named", [{}, {"software_root": INTEL_ROOT_DER()}])
    def test_is_refused_by_a_policy_without_signers_which_is_told_to_add_one(
        self, named: dict[str, bytes]
    ) -> None:
        error = self._refusal(signers=[], **named)
        assert error.step is Step.MEASUREMENT
        assert "names no signer" in str(error)
        assert "--signer" in str(error)


class TestGenuineEvidenceOfAugust:
    """Quotes of another platform, with Intel's collateral of another month."""

    def _verify(self, name: str, **policy: Any) -> VerifiedQuote:
        collateral = Collateral.model_validate_json(genuine.evidence("aug2025.json").read_bytes())
        quote = genuine.evidence(name).read_bytes()
        fields = {"measurements": [quote[112:144].hex()], "signers": [quote[176:208].hex()]} | policy
        return verify_quote(quote, collateral, AttestationPolicy.model_validate(fields), AUGUST)

    def test_is_accepted_in_its_time_by_the_default_policy(self) -> None:
        assert self._verify("sgx_quote_v3").tcb_status is TcbStatus.SW_HARDENING_NEEDED

    def test_debug_enclave_of_occlum_is_refused_at_the_tcb_step_and_then_for_its_attributes(
        self,
    ) -> None:
        with pytest.raises(EvidenceRefused) as refused:
            self._verify("occlum_quote_debug")
        assert refused.value.step is Step.TCB_STATUS
        with pytest.raises(EvidenceRefused) as refused:
            self._verify("occlum_quote_debug", accepted_tcb=["OutOfDate"])
        assert refused.value.step is Step.ATTRIBUTES


def test_refusal_without_the_software_root_says_what_to_do() -> None:
    error = refusal(HONEST, AttestationPolicy(measurements=frozenset({MEASUREMENT.hex()})))
    assert error.step is Step.CERTIFICATE_CHAIN
    assert "development TEE" in str(error)
    assert "--trust-software-root" in str(error)


def test_accepted_software_root_is_named_in_the_step() -> None:
    steps = verify(HONEST, OURS.policy(), EXPECTED, NOW).steps
    assert "SOFTWARE root" in steps[Step.CERTIFICATE_CHAIN.number - 1].detail


def test_signer_policy_accepts_higher_svns_of_its_product() -> None:
    fields = {"measurements": [], "signers": [IDENTITY.signer.hex()], "product_id": 3}
    for minimum in (0, IDENTITY.svn):
        verify(HONEST, OURS.policy(**fields, minimum_svn=minimum), EXPECTED, NOW)
    assert refusal(HONEST, OURS.policy(**fields, minimum_svn=8)).step is Step.MEASUREMENT


def test_measurement_and_signer_are_both_demanded_where_both_are_named() -> None:
    signers = [IDENTITY.signer.hex()]
    verify(HONEST, OURS.policy(signers=signers), EXPECTED, NOW)
    verify(HONEST, OURS.policy(signers=signers, minimum_svn=IDENTITY.svn), EXPECTED, NOW)
    for wrong in (
        {"measurements": ["0" * 64], "signers": signers, "product_id": 3},
        {"signers": ["0" * 64]},
        {"signers": signers, "minimum_svn": IDENTITY.svn + 1},
    ):
        assert refusal(HONEST, OURS.policy(**wrong)).step is Step.MEASUREMENT


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"measurements": []},
        {"measurements": ["00"]},
        {"measurements": ["G" * 64]},
        {"measurements": ["0" * 64], "allow_debug": True},
        {"measurements": ["0" * 64], "grace_days": -1},
        {"measurements": ["0" * 64], "accepted_tcb": ["Fine"]},
        {"measurements": ["0" * 64], "accepted_tcb": ["UpToDate", "Revoked"]},
        {"measurements": ["0" * 64], "accepted_advisories": ["all"]},
        {"measurements": ["0" * 64], "trust_everything": True},
    ],
)
def test_policy_that_cannot_be_meant_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AttestationPolicy.model_validate(fields)


class TestKeyBinding:
    """Step 15: over RA-TLS the handshake's key must be the evidence's."""

    def test_key_of_the_handshake_is_accepted_where_the_claims_bind_it(self) -> None:
        evidence = OURS.evidence(claims(tls_public_key_sha256="e" * 64))
        expected = Expected(Role.PARAMETER_SERVER, JOB, NONCE, tls_public_key_sha256="e" * 64)
        last = verify(evidence, OURS.policy(), expected, NOW).steps[-1]
        assert last.step is Step.KEY_BINDING
        assert last.detail == "binds HPKE key, job CA key, TLS key"

    @pytest.mark.parametrize("bound", [None, "d" * 64])
    def test_another_key_is_refused(self, bound: str | None) -> None:
        evidence = OURS.evidence(claims(tls_public_key_sha256=bound))
        expected = Expected(Role.PARAMETER_SERVER, JOB, NONCE, tls_public_key_sha256="e" * 64)
        assert refusal(evidence, OURS.policy(), expected).step is Step.KEY_BINDING

    @pytest.mark.parametrize(
        "fields",
        [
            {"role": "trainer"},
            {"role": "trainer", "tls_public_key_sha256": "e" * 64, "tls_ca_sha256": "e" * 64},
            {"role": "parameter-server", "tls_ca_sha256": "e" * 64},
            {"role": "predictor"},
            {"role": "predictor", "tls_public_key_sha256": "e" * 64},
        ],
    )
    def test_claims_that_do_not_bind_their_roles_keys_are_malformed(self, fields: dict[str, str]) -> None:
        with pytest.raises(ValidationError, match="must bind"):
            Claims.model_validate(fields | {"job": JOB, "nonce": NONCE})


class TestTcb:
    """Our reading of TCB levels and dcap-qvl's are one."""

    STATUSES = (
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    )

    @pytest.mark.parametrize("quoting_enclave", ["UpToDate", "OutOfDate"])
    @pytest.mark.parametrize("platform", STATUSES)
    def test_platform_and_quoting_enclave_converge_as_dcap_qvl_says(
        self, platform: str, quoting_enclave: str
    ) -> None:
        evidence = self._evidence(platform, quoting_enclave)
        policy = OURS.policy(accepted_tcb=list(self.STATUSES))
        verified = verify(evidence, policy, EXPECTED, NOW)
        assert verified.quote.tcb_status is converge(TcbStatus(platform), TcbStatus(quoting_enclave))

    @pytest.mark.parametrize("days", [0, 9, 10, 11, 730])
    @pytest.mark.parametrize(
        ("platform", "quoting_enclave"), [("OutOfDate", "UpToDate"), ("UpToDate", "OutOfDate")]
    )
    def test_grace_is_that_of_dcap_qvls_policy(self, platform: str, quoting_enclave: str, days: int) -> None:
        """Levels dated 2026-02-19; it is noon of 2026-03-01: ten and a half days."""
        evidence = self._evidence(platform, quoting_enclave, "2026-02-19")
        theirs = self._dcap_accepts(evidence, days)
        assert theirs is (days > 10)
        policy = OURS.policy(grace_days=days)
        if theirs:
            steps = verify(evidence, policy, EXPECTED, NOW).steps
            assert f"within {days} days' grace" in steps[Step.TCB_STATUS.number - 1].detail
        else:
            assert refusal(evidence, policy).step is Step.TCB_STATUS

    def test_grace_does_not_forgive_needed_configuration(self) -> None:
        evidence = self._evidence("OutOfDateConfigurationNeeded", "UpToDate", "2026-02-19")
        assert refusal(evidence, OURS.policy(grace_days=700)).step is Step.TCB_STATUS
        both = OURS.policy(grace_days=700, accepted_tcb=["UpToDate", "ConfigurationNeeded"])
        verify(evidence, both, EXPECTED, NOW)

    def test_grace_does_not_forgive_advisories(self) -> None:
        rows = platform_levels((2, "2026-02-25", "UpToDate"), (1, "2026-02-19", "OutOfDate"))
        rows[1]["advisoryIDs"] = ["INTEL-SA-00999"]
        evidence = with_collateral(HONEST, **OURS.tcb_info(tcbLevels=rows))
        verify(evidence, OURS.policy(grace_days=30), EXPECTED, NOW)
        assert refusal(evidence, OURS.policy(grace_days=30, accepted_advisories=[])).step is Step.TCB_STATUS

    def test_levels_in_another_order_make_no_difference(self) -> None:
        rows = platform_levels((0, "2025-12-01", "OutOfDate"), (1, "2026-02-19", "UpToDate"))
        verify(with_collateral(HONEST, **OURS.tcb_info(tcbLevels=rows)), OURS.policy(), EXPECTED, NOW)

    def test_revoked_platform_is_refused_even_by_a_policy_that_was_made_to_accept_it(self) -> None:
        """Made past the schema, which refuses such a policy."""
        careless = OURS.policy().model_copy(update={"accepted_tcb": frozenset(TcbStatus)})
        rows = platform_levels((2, "2026-02-25", "UpToDate"), (1, "2026-02-19", "Revoked"))
        revoked = with_collateral(HONEST, **OURS.tcb_info(tcbLevels=rows))
        with pytest.raises(EvidenceRefused) as refused:
            verify_quote(revoked.quote, revoked.collateral, careless, NOW)
        assert refused.value.step is Step.TCB_STATUS

    @pytest.mark.parametrize("status", ["UpToDate", "Revoked"])
    def test_nothing_passes_that_dcap_qvl_refuses(self, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
        """Where every step of ours holds and the library still refuses, it is a refusal."""
        from chiron.runtime.attestation import verify_quote as module
        from chiron.runtime.attestation.second_opinion import Opinion

        monkeypatch.setattr(module, "second_opinion", lambda *_: Opinion(refusal="something new"))
        careless = OURS.policy().model_copy(update={"accepted_tcb": frozenset(TcbStatus)})
        rows = platform_levels((1, "2026-02-19", status))
        evidence = with_collateral(HONEST, **OURS.tcb_info(tcbLevels=rows))
        with pytest.raises(EvidenceRefused):
            verify_quote(evidence.quote, evidence.collateral, careless, NOW)

    def test_another_opinion_on_the_tcb_is_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dataclasses import replace

        from chiron.runtime.attestation import verify_quote as module
        from chiron.runtime.attestation.second_opinion import Opinion, second_opinion

        def differing(*arguments: Any) -> Any:
            opinion = second_opinion(*arguments)
            assert opinion.reading is not None
            return Opinion(replace(opinion.reading, tcb=(TcbStatus.SW_HARDENING_NEEDED, ())))

        monkeypatch.setattr(module, "second_opinion", differing)
        assert refusal(HONEST, OURS.policy()).step is Step.TCB_STATUS

    def _evidence(self, platform: str, quoting_enclave: str, day: str = "2025-12-01") -> Evidence:
        changes = OURS.tcb_info(tcbLevels=platform_levels((2, "2026-02-25", "UpToDate"), (1, day, platform)))
        changes |= OURS.qe_identity(
            tcbLevels=qe_levels((9, "2026-02-25", "UpToDate"), (1, day, quoting_enclave))
        )
        return with_collateral(HONEST, **changes)

    def _dcap_accepts(self, evidence: Evidence, days: int) -> bool:
        now, grace = int(NOW.timestamp()), days * 24 * 3600
        policy = dcap_qvl.QuotePolicy.strict(now).allow_status("OutOfDate")
        policy = policy.allow_smt(True).allow_dynamic_platform(True).allow_cached_keys(True)
        policy = policy.platform_grace_period(grace).qe_grace_period(grace)
        collateral = dcap_qvl.QuoteCollateralV3.from_json(
            evidence.collateral.model_dump_json(exclude_none=True)
        )
        try:
            verifier = dcap_qvl.QuoteVerifier(OURS.root.der)
            verifier.verify_with_policy(evidence.quote, collateral, now, policy)
        except ValueError:
            return False
        return True


def test_collateral_without_a_pck_chain_uses_the_quotes() -> None:
    verify(with_collateral(HONEST, pck_certificate_chain=None), OURS.policy(), EXPECTED, NOW)


def test_time_zone_of_the_verifier_does_not_matter() -> None:
    verify(HONEST, OURS.policy(), EXPECTED, NOW.astimezone(timezone(timedelta(hours=-9))))


def test_evidence_travels_as_json_and_means_the_same() -> None:
    again = Evidence.model_validate_json(HONEST.model_dump_json())
    assert again == HONEST
    assert SgxQuote.parse(again.quote).report.measurement == MEASUREMENT


@pytest.mark.parametrize("name", ["quote", "tcb_info"])
def test_oversized_evidence_is_not_even_parsed(name: str) -> None:
    fields = json.loads(HONEST.model_dump_json())
    target = fields if name == "quote" else fields["collateral"]
    target[name] = "A" * 4 * 2**20
    with pytest.raises(ValidationError):
        Evidence.model_validate(fields)


def test_without_a_platform_everything_is_refused() -> None:
    with pytest.raises(PlatformUnavailable):
        RefusingPlatform().quote(bytes(64))
    with pytest.raises(PlatformUnavailable):
        RefusingPlatform().sealing_key(SealingPolicy.MEASUREMENT, b"label")


def test_report_data_is_sha512_of_the_claims_written_canonically() -> None:
    """RFC 8785 for these values: sorted names, no spaces; every field is written, absent ones as null."""
    fields = {
        "version": 1,
        "role": "trainer",
        "job": JOB,
        "hpke_public_key": None,
        "tls_ca_sha256": None,
        "tls_public_key_sha256": "e" * 64,
        "owner_key_sha256": None,
        "nonce": base64.b64encode(NONCE).decode(),
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    told = Claims(role=Role.TRAINER, job=JOB, tls_public_key_sha256="e" * 64, nonce=NONCE)
    assert told.report_data() == hashlib.sha512(text.encode()).digest()
