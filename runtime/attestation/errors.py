"""Errors of attestation.

AttestationError
├── EvidenceRefused         evidence did not pass a numbered verification step
├── EvidenceMissing         a certificate carries no evidence that could be verified
├── PolicyInvalid           a policy file that cannot be used
└── PlatformUnavailable     no quote or key can be had here
"""

from typing import TYPE_CHECKING

from chiron.wire.errors import ChironError

if TYPE_CHECKING:
    from chiron.runtime.attestation.steps import StepResult


class AttestationError(ChironError):
    """Base of all; `code` is stable."""

    code = "attestation-failed"


class EvidenceRefused(AttestationError):
    """`steps` holds the results so far; the last one is the step that refused."""

    def __init__(self, steps: "tuple[StepResult, ...]") -> None:
        refused = steps[-1]
        super().__init__(f"step {refused.step.number} ({refused.step.title}): {refused.detail}")
        self.steps = steps
        self.step = refused.step
        self.code = f"evidence-{refused.step.value}"


class EvidenceMissing(AttestationError):
    """There is nothing to verify: no extension, or not evidence of ours."""

    code = "evidence-missing"


class PolicyInvalid(AttestationError):
    """The policy file cannot be read, or says what no policy can mean."""

    code = "policy-invalid"


class PlatformUnavailable(AttestationError):
    """There is no TEE, or it did not answer."""

    code = "platform-unavailable"
