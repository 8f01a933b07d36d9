"""Steps 1 to 11 of verification: the quote by itself. `chiron.runtime.attestation.verify` lists them all."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.runtime.attestation.attributes import attributes_fault
from chiron.runtime.attestation.chains import (
    Chains,
    certificate_key,
    check_chains,
    check_revocation,
    check_signature,
    parse_chain,
)
from chiron.runtime.attestation.collateral import (
    QeIdentity,
    TcbInfo,
    check_quoting_enclave,
    check_same_platform,
    check_same_recovery,
    check_statement,
)
from chiron.runtime.attestation.machines import check_machine
from chiron.runtime.attestation.pck import Platform, read_platform
from chiron.runtime.attestation.quote import Header, Report, SgxQuote
from chiron.runtime.attestation.second_opinion import Opinion, difference, second_opinion, tcb_difference
from chiron.runtime.attestation.steps import Appraisal, Step, StepFailed, StepResult
from chiron.runtime.attestation.tcb import TcbVerdict, check_accepted, match
from chiron.runtime.errors import LogRefused, QuoteMalformed
from chiron.runtime.transparency import check_inclusion
from chiron.wire.attestation import AttestationPolicy, Collateral, TcbStatus

INTEL_ROOT_DER = (files("chiron.runtime.attestation") / "intel_sgx_root_ca.der").read_bytes
"""Reads Intel's SGX root CA certificate, which ships with the package."""
INTEL_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""Whose quoting enclave made the quote; the only one that DCAP defines."""
_KEY_TYPE_P256 = 2


@dataclass(frozen=True)
class VerifiedQuote:
    """A quote that passed steps 1 to 11."""

    report: Report
    platform: Platform
    tcb_status: TcbStatus
    advisories: tuple[str, ...]
    steps: tuple[StepResult, ...]

    @property
    def measurement(self) -> str:
        """MRENCLAVE, in hexadecimal."""
        return self.report.measurement.hex()

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the enclave had quoted."""
        return self.report.report_data

    @property
    def signer(self) -> str:
        """MRSIGNER, in hexadecimal."""
        return self.report.signer.hex()


def verify_quote(
    quote: bytes, collateral: Collateral, policy: AttestationPolicy, at: datetime
) -> VerifiedQuote:
    """Steps 1 to 11: a quote by itself, without claims.

    Raises:
        EvidenceRefused: with the results up to and including the step that refused.
    """
    appraisal = Appraisal()
    at = at.astimezone(UTC)
    root = policy.software_root or INTEL_ROOT_DER()
    parsed = _check_form(appraisal, quote)
    chains = _check_certificates(appraisal, parsed, collateral, policy, at)
    platform, info, identity = _check_statements(appraisal, parsed, collateral, chains, policy, at)
    opinion = second_opinion(quote, collateral, root, at)
    found = _check_signatures(appraisal, parsed, chains, platform, (info, identity), opinion)
    with appraisal.step(Step.TCB_STATUS) as finding:
        verdict = _agreed_verdict(found, opinion)
        finding.detail = f"{check_accepted(verdict, policy, at)}; {check_machine(platform, policy)}"
    fault = attributes_fault(parsed.report)
    appraisal.check(Step.ATTRIBUTES, fault is None, fault or f"debug off, flags {parsed.report.flags:#x}")
    if opinion.reading is None:
        # A step above has refused by now. This stays so that nothing below ever runs on our word alone.
        raise appraisal.refuse(Step.ATTRIBUTES, f"dcap-qvl: {opinion.refusal}")
    with appraisal.step(Step.MEASUREMENT) as finding:
        finding.detail = _check_code(parsed.report, policy)
    with appraisal.step(Step.TRANSPARENCY) as finding:
        finding.detail = _check_log(parsed.report, policy)
    return VerifiedQuote(
        report=parsed.report,
        platform=platform,
        tcb_status=verdict.status,
        advisories=verdict.advisories,
        steps=appraisal.steps,
    )


def _check_form(appraisal: Appraisal, quote: bytes) -> SgxQuote:
    """Steps 1 and 2."""
    try:
        header = Header.parse(quote)
        parsed = SgxQuote.parse(quote) if header.version == 3 else None
    except QuoteMalformed as error:
        raise appraisal.refuse(Step.PARSE, str(error)) from error
    appraisal.passed(Step.PARSE, f"version {header.version}, {len(quote)} bytes")
    sgx = header.tee_type == 0 and header.key_type == _KEY_TYPE_P256 and header.vendor == INTEL_VENDOR
    detail = f"version {header.version}, TEE type {header.tee_type:#x}, key type {header.key_type}"
    if parsed is None or not sgx:
        raise appraisal.refuse(Step.TEE_TYPE, f"{detail}: only SGX with ECDSA P-256 (version 3, 0x0, 2) is")
    appraisal.passed(Step.TEE_TYPE, detail)
    return parsed


def _check_certificates(
    appraisal: Appraisal, parsed: SgxQuote, collateral: Collateral, policy: AttestationPolicy, at: datetime
) -> Chains:
    """Steps 3 and 4."""
    root = policy.software_root or INTEL_ROOT_DER()
    with appraisal.step(Step.CERTIFICATE_CHAIN) as finding:
        try:
            chains = check_chains(collateral, parsed.pck_chain, root, at)
        except StepFailed as error:
            raise StepFailed(_software_root_hint(str(error), collateral, policy)) from error
        name = "a SOFTWARE root, given explicitly" if policy.software_root else "Intel's root"
        finding.detail = f"three chains to {name}, in date at {at:%Y-%m-%d %H:%M} UTC"
    with appraisal.step(Step.REVOCATION) as finding:
        finding.detail = check_revocation(collateral, chains, at)
    return chains


def _software_root_hint(detail: str, collateral: Collateral, policy: AttestationPolicy) -> str:
    """The refusal's words: where evidence names itself a development TEE's, they say what to do."""
    if policy.software_root is not None:
        return detail
    try:
        names = [c.subject.rfc4514_string() for c in parse_chain("", collateral.tcb_info_issuer_chain)]
    except StepFailed:
        return detail
    if not any("SOFTWARE TEE" in name for name in names):
        return detail
    return (
        "this is a development TEE's evidence, which protects nothing; its root must be trusted explicitly "
        "(--trust-software-root FILE)"
    )


def _check_statements(
    appraisal: Appraisal,
    parsed: SgxQuote,
    collateral: Collateral,
    chains: Chains,
    policy: AttestationPolicy,
    at: datetime,
) -> tuple[Platform, TcbInfo, QeIdentity]:
    """Steps 5 and 6."""
    with appraisal.step(Step.TCB_INFO) as finding:
        signature = collateral.tcb_info_signature
        info = check_statement(TcbInfo, "TCB info", collateral.tcb_info, signature, chains.tcb_info[0], at)
        platform = read_platform(chains.pck[0])
        check_same_platform(info, platform)
        finding.detail = f"FMSPC {info.fmspc}, {_check_recent(info, policy)}"
    with appraisal.step(Step.QE_IDENTITY) as finding:
        signature = collateral.qe_identity_signature
        identity = check_statement(
            QeIdentity, "QE identity", collateral.qe_identity, signature, chains.qe_identity[0], at
        )
        check_quoting_enclave(identity, parsed.qe_report)
        check_same_recovery(info, identity)
        finding.detail = f"signer {identity.signer[:16].lower()}…, {_check_recent(identity, policy)}"
    return platform, info, identity


def _check_recent(statement: TcbInfo | QeIdentity, policy: AttestationPolicy) -> str:
    if statement.evaluation < policy.minimum_tcb_evaluation:
        raise StepFailed(
            f"evaluation {statement.evaluation}, the policy demands {policy.minimum_tcb_evaluation}"
        )
    return f"evaluation {statement.evaluation}, current until {statement.next_update:%Y-%m-%d}"


def _check_signatures(
    appraisal: Appraisal,
    parsed: SgxQuote,
    chains: Chains,
    platform: Platform,
    statements: tuple[TcbInfo, QeIdentity],
    opinion: Opinion,
) -> TcbVerdict | None:
    """Step 7. dcap-qvl may refuse only what a later step of ours refuses too, and then names better."""
    with appraisal.step(Step.SIGNATURE) as finding:
        _check_quote_signatures(parsed, chains.pck[0])
        try:
            verdict = match(*statements, platform, parsed.qe_report.svn)
        except StepFailed:
            verdict = None
        revoked = verdict is None or verdict.status is TcbStatus.REVOKED
        refused_later = revoked or attributes_fault(parsed.report) is not None
        if opinion.reading is None and not refused_later:
            raise StepFailed(f"dcap-qvl: {opinion.refusal}")
        if opinion.reading is not None:
            differing = difference(opinion.reading, parsed, platform)
            if differing is not None:
                raise StepFailed(f"dcap-qvl reads another {differing}")
        finding.detail = "ECDSA P-256: PCK → quoting enclave → attestation key → report"
    return verdict


def _check_quote_signatures(quote: SgxQuote, pck: x509.Certificate) -> None:
    """The PCK key signs the quoting enclave's report, which binds the key that signs ours.

    Raises:
        StepFailed: a link does not hold.
    """
    check_signature("QE report", certificate_key(pck), quote.qe_signature, quote.qe_report.raw)
    binding = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    if quote.qe_report.report_data != binding.ljust(64, b"\0"):
        raise StepFailed("the QE report does not bind the attestation key")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError as error:
        raise StepFailed("the attestation key is not a point of P-256") from error
    check_signature("enclave's report", key, quote.signature, quote.signed)


def _agreed_verdict(verdict: TcbVerdict | None, opinion: Opinion) -> TcbVerdict:
    """Our verdict on the TCB, which dcap-qvl must share.

    Raises:
        StepFailed: there is none, or it does not.
    """
    if verdict is None:
        raise StepFailed("the platform reaches no TCB level")
    if verdict.status is TcbStatus.REVOKED:
        raise StepFailed("the platform's keys are revoked: no policy can accept that")
    differing = tcb_difference(opinion.reading, verdict) if opinion.reading is not None else None
    if differing is not None:
        raise StepFailed(differing)
    return verdict


def _check_code(report: Report, policy: AttestationPolicy) -> str:
    """Step 10: MRENCLAVE and MRSIGNER, each where the policy names some.

    MRENCLAVE does not cover MRSIGNER, and whoever signs an Occlum enclave can write the layer that lies over
    its measured files. So genuine evidence is nothing without a signer that its verifier trusts.

    Raises:
        StepFailed: it is not code that the policy accepts.
    """
    measurement, signer = report.measurement.hex(), report.signer.hex()
    if not policy.signers and policy.software_root in (None, INTEL_ROOT_DER()):
        raise StepFailed(
            "the policy names no signer: add MRSIGNER of a key that the operator does not hold "
            '(--signer HEX, or signers = ["…"] in the policy file)'
        )
    if policy.measurements and measurement not in policy.measurements:
        raise StepFailed(f"MRENCLAVE {measurement}")
    shown = f"MRSIGNER {signer}, product {report.product_id}, SVN {report.svn}"
    if policy.signers and (signer not in policy.signers or report.svn < policy.minimum_svn):
        raise StepFailed(shown)
    if policy.measurements:
        return f"MRENCLAVE {measurement}" + (f", MRSIGNER {signer}" if policy.signers else "")
    if report.product_id != policy.product_id:
        raise StepFailed(shown)
    return shown


def _check_log(report: Report, policy: AttestationPolicy) -> str:
    """Step 11: an entry of the log names this measurement, and this signer where it names one.

    Raises:
        StepFailed: none does, or it is not in the log.
    """
    if policy.transparency is None:
        return "not demanded"
    measurement, signer = report.measurement.hex(), report.signer.hex()
    for proof in policy.transparency.proofs:
        if proof.entry.measurement == measurement and proof.entry.signer in (None, signer):
            try:
                check_inclusion(proof, policy.transparency.log_public_key)
            except LogRefused as error:
                raise StepFailed(str(error)) from error
            return f"entry {proof.index} of {proof.head.head.tree_size}, {proof.entry.source_revision[:12]}"
    raise StepFailed("no inclusion proof for this measurement and its signer")
