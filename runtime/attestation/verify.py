"""Verification of evidence: pure, no clock, no network. Fails at the first step that does not hold.

Steps (`chiron.runtime.attestation.steps`; docs/attestation.md explains each):
 1. parse the quote                          9. attributes: no debugging, no foreign keys
 2. SGX, ECDSA, version 3                   10. measurement, or signer, product and minimum SVN
 3. certificate chains to the pinned root   11. transparency log, where the policy demands it
 4. revocation lists                        12. claims digest in the report data
 5. TCB info                                13. nonce
 6. quoting-enclave identity                14. role and job
 7. signatures, and dcap-qvl agrees         15. key binding
 8. TCB status and advisories
Steps 3 to 9 are done twice: here, so that a refusal names its step, and by dcap-qvl, which must
agree and have read the same.
"""

from dataclasses import dataclass
from datetime import datetime

from chiron.runtime.attestation.steps import Appraisal, Step, StepFailed, StepResult
from chiron.runtime.attestation.verify_quote import VerifiedQuote, verify_quote
from chiron.wire.attestation import AttestationPolicy, Claims, Evidence, Role

__all__ = ["Expected", "VerifiedEvidence", "VerifiedQuote", "verify", "verify_quote"]


@dataclass(frozen=True)
class Expected:
    """What the verifier asked for."""

    role: Role
    job: str
    nonce: bytes
    tls_public_key_sha256: str | None = None
    """Digest of the key (SubjectPublicKeyInfo) that an RA-TLS peer's handshake proved to hold."""
    owner_key_sha256: str | None = None
    """The signing key (digest) of the owner whose model a predictor must serve."""


@dataclass(frozen=True)
class VerifiedEvidence:
    """Evidence that passed every step. Only `verify` makes one: secrets go to nothing less."""

    claims: Claims
    quote: VerifiedQuote
    steps: tuple[StepResult, ...]


def verify(
    evidence: Evidence, policy: AttestationPolicy, expected: Expected, at: datetime
) -> VerifiedEvidence:
    """Verify evidence at the time `at`.

    Raises:
        EvidenceRefused: with the results up to and including the step that refused.
    """
    quote = verify_quote(evidence.quote, evidence.collateral, policy, at)
    appraisal = Appraisal(quote.steps)
    claims = evidence.claims
    digest = claims.report_data()
    appraisal.check(Step.CLAIMS, quote.report_data == digest, f"SHA-512 of the claims: {digest.hex()[:32]}…")
    appraisal.check(Step.NONCE, claims.nonce == expected.nonce, f"nonce {claims.nonce.hex()[:32]}…")
    appraisal.check(
        Step.ROLE_AND_JOB,
        claims.role is expected.role and claims.job == expected.job,
        f"{claims.role} of job {claims.job}, asked for {expected.role} of {expected.job}",
    )
    with appraisal.step(Step.KEY_BINDING) as finding:
        finding.detail = _check_keys(claims, expected)
    return VerifiedEvidence(claims, quote, appraisal.steps)


def _check_keys(claims: Claims, expected: Expected) -> str:
    """Step 15. That the role's own keys are bound, the claims' schema has made sure of."""
    wanted, bound = expected.tls_public_key_sha256, claims.tls_public_key_sha256
    if wanted is not None and wanted != bound:
        raise StepFailed(f"the peer's TLS key is {wanted[:32]}…, the evidence binds {bound or 'none'}")
    if expected.owner_key_sha256 not in (None, claims.owner_key_sha256):
        raise StepFailed("the predictor serves a model of another owner")
    named = {"HPKE": claims.hpke_public_key, "job CA": claims.tls_ca_sha256, "TLS": bound}
    binds = "binds " + ", ".join(f"{name} key" for name, key in named.items() if key is not None)
    if claims.owner_key_sha256 is None:
        return binds
    compared = "as asked for" if expected.owner_key_sha256 else "which was not compared"
    return f"{binds}; model of owner {claims.owner_key_sha256}, {compared}"
