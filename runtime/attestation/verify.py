"""Verification of evidence: pure, no clock, no network. Fails at the first step that does not hold.

Steps (`runtime.attestation.steps`; docs/attestation.md):
 1. parse the quote                          8. TCB status and advisories against the policy
 2. SGX, ECDSA                               9. not a debug enclave
 3. certificate chain to the pinned root    10. measurement, or signer, product and minimum SVN
 4. revocation lists                        11. claims digest in the report data
 5. TCB info                                12. nonce
 6. quoting-enclave identity                13. role and job
 7. signatures
Steps 3 to 7 are one call of dcap-qvl, which alone decides; its message only names the step.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

import dcap_qvl

from runtime.attestation.errors import EvidenceRefused
from runtime.attestation.steps import Step, StepResult
from runtime.wire.attestation import AttestationPolicy, Claims, Collateral, Evidence, Role, TcbStatus

INTEL_ROOT_DER = (files("runtime.attestation") / "intel_sgx_root_ca.der").read_bytes
"""Reads Intel's SGX root CA certificate, which ships with the package."""


@dataclass(frozen=True)
class Expected:
    """What the verifier asked for."""

    role: Role
    job: str
    nonce: bytes


@dataclass(frozen=True)
class VerifiedQuote:
    """A quote that passed steps 1 to 10."""

    measurement: str
    signer: str
    tcb_status: TcbStatus
    advisories: tuple[str, ...]
    report_data: bytes
    steps: tuple[StepResult, ...]


@dataclass(frozen=True)
class VerifiedEvidence:
    """Evidence that passed every step. Only `verify` makes one: secrets go to nothing less."""

    claims: Claims
    quote: VerifiedQuote
    steps: tuple[StepResult, ...]


class _Record:
    """The steps so far; `check` ends verification where one does not hold."""

    def __init__(self, steps: tuple[StepResult, ...] = ()) -> None:
        self.steps = steps

    def check(self, step: Step, passed: bool, detail: str) -> None:
        self.steps = (*self.steps, StepResult(step, passed, detail))
        if not passed:
            raise EvidenceRefused(self.steps)


def verify(
    evidence: Evidence, policy: AttestationPolicy, expected: Expected, at: datetime
) -> VerifiedEvidence:
    """Verify evidence at the time `at`.

    Raises:
        EvidenceRefused: with the results up to and including the step that refused.
    """
    quote = verify_quote(evidence.quote, evidence.collateral, policy, at)
    record = _Record(quote.steps)
    claims = evidence.claims
    digest = claims.report_data()
    record.check(Step.CLAIMS, quote.report_data == digest, f"SHA-512 of the claims: {digest.hex()[:32]}…")
    record.check(Step.NONCE, claims.nonce == expected.nonce, f"nonce {claims.nonce.hex()[:32]}…")
    record.check(
        Step.ROLE_AND_JOB,
        claims.role is expected.role and claims.job == expected.job,
        f"{claims.role} of job {claims.job}",
    )
    return VerifiedEvidence(claims, quote, record.steps)


def verify_quote(
    quote: bytes, collateral: Collateral, policy: AttestationPolicy, at: datetime
) -> VerifiedQuote:
    """Steps 1 to 10: a quote by itself, without claims.

    Raises:
        EvidenceRefused: as `verify`.
    """
    record = _Record()
    _check_form(record, quote)
    verified = _verify_signatures(record, quote, collateral, policy, at)
    report = verified["report"]["SgxEnclave"]
    status = TcbStatus(verified["status"])
    advisories = tuple(verified["advisory_ids"])
    _check_tcb(record, status, advisories, policy)
    debug = bool(bytes.fromhex(report["attributes"])[0] & 0x02)
    record.check(Step.ATTRIBUTES, policy.allow_debug or not debug, f"debug {'on' if debug else 'off'}")
    _check_measurement(record, report, policy)
    return VerifiedQuote(
        measurement=report["mr_enclave"],
        signer=report["mr_signer"],
        tcb_status=status,
        advisories=advisories,
        report_data=bytes.fromhex(report["report_data"]),
        steps=record.steps,
    )


def _check_form(record: _Record, quote: bytes) -> None:
    try:
        parsed = dcap_qvl.parse_quote(quote)
    except ValueError as error:
        record.check(Step.PARSE, False, str(error))
        return
    record.check(Step.PARSE, True, f"version {parsed.header.version}, {len(quote)} bytes")
    sgx = parsed.is_sgx() and parsed.header.attestation_key_type == 2
    record.check(Step.TEE_TYPE, sgx, f"TEE type {parsed.header.tee_type}, {parsed.quote_type()}")


def _verify_signatures(
    record: _Record, quote: bytes, collateral: Collateral, policy: AttestationPolicy, at: datetime
) -> "dict[str, dict[str, dict[str, str]]]":
    root = policy.software_root or INTEL_ROOT_DER()
    try:
        qvl_collateral = dcap_qvl.QuoteCollateralV3.from_json(collateral.model_dump_json(exclude_none=True))
        report = dcap_qvl.verify_with_root_ca(quote, qvl_collateral, root, int(at.timestamp()))
    except ValueError as error:
        step = _step_of(str(error))
        detail = " ".join(str(error).split())
        if policy.software_root is None and _names_software_root(collateral):
            step = Step.CERTIFICATE_CHAIN
            detail = (
                "this is a development TEE's evidence, which protects nothing; its root must be trusted "
                "explicitly (--trust-software-root FILE)"
            )
        record.check(step, False, detail)
        raise  # not reached: a failed check raises
    root_name = "a SOFTWARE root, given explicitly" if policy.software_root else "Intel's root"
    record.check(Step.CERTIFICATE_CHAIN, True, f"chain to {root_name}, valid at {at:%Y-%m-%d %H:%M} UTC")
    record.check(Step.REVOCATION, True, "root and PCK revocation lists")
    record.check(Step.TCB_INFO, True, "signature and dates")
    record.check(Step.QE_IDENTITY, True, "signature, dates, signer and SVN")
    record.check(Step.SIGNATURE, True, "ECDSA P-256: PCK → quoting enclave → attestation key → report")
    verified: dict[str, dict[str, dict[str, str]]] = json.loads(report.to_json())
    return verified


_STEP_OF_MESSAGE = (
    ("crl", Step.REVOCATION),
    ("revoked", Step.REVOCATION),
    ("tcbinfo", Step.TCB_INFO),
    ("tcb info", Step.TCB_INFO),
    ("tcb_info", Step.TCB_INFO),
    ("fmspc", Step.TCB_INFO),
    ("qe identity", Step.QE_IDENTITY),
    ("qe_identity", Step.QE_IDENTITY),
    ("qeidentity", Step.QE_IDENTITY),
    ("enclave identity", Step.QE_IDENTITY),
    ("mrsigner", Step.QE_IDENTITY),
    ("signature is invalid", Step.SIGNATURE),
    ("qe_report", Step.SIGNATURE),
    ("qe report", Step.SIGNATURE),
    ("debug", Step.ATTRIBUTES),
    ("certificate", Step.CERTIFICATE_CHAIN),
    ("cert", Step.CERTIFICATE_CHAIN),
)


def _step_of(message: str) -> Step:
    """The step that a refusal of dcap-qvl belongs to; for display and error codes only."""
    lowered = message.lower()
    return next((step for part, step in _STEP_OF_MESSAGE if part in lowered), Step.SIGNATURE)


def _names_software_root(collateral: Collateral) -> bool:
    """Whether the evidence itself says that it is a development TEE's: it only words the refusal."""
    import base64

    body = "".join(line for line in collateral.tcb_info_issuer_chain.splitlines() if "-----" not in line)
    try:
        return b"SOFTWARE TEE" in base64.b64decode(body + "==", validate=False)
    except ValueError:
        return False


def _check_tcb(
    record: _Record, status: TcbStatus, advisories: tuple[str, ...], policy: AttestationPolicy
) -> None:
    accepted = policy.accepted_advisories
    unaccepted = [] if accepted is None else [name for name in advisories if name not in accepted]
    detail = f"{status}; advisories {', '.join(advisories) or 'none'}"
    record.check(Step.TCB_STATUS, status in policy.accepted_tcb and not unaccepted, detail)


def _check_measurement(record: _Record, report: "dict[str, str]", policy: AttestationPolicy) -> None:
    measurement, signer = report["mr_enclave"], report["mr_signer"]
    if policy.measurements:
        record.check(Step.MEASUREMENT, measurement in policy.measurements, f"MRENCLAVE {measurement}")
        return
    product, svn = int(report["isv_prod_id"]), int(report["isv_svn"])
    accepted = signer in policy.signers and product == policy.product_id and svn >= policy.minimum_svn
    record.check(Step.MEASUREMENT, accepted, f"MRSIGNER {signer}, product {product}, SVN {svn}")
