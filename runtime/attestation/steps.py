"""The numbered steps of verification, and the appraisal that takes them one by one.

docs/attestation.md explains each step. An appraisal ends at the first one that does not hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from chiron.runtime.errors import EvidenceRefused
from chiron.wire.errors import ChironError


class Step(StrEnum):
    """The steps in the order in which they are checked; a value is part of the stable error code."""

    PARSE = "parse"
    TEE_TYPE = "tee-type"
    CERTIFICATE_CHAIN = "certificate-chain"
    REVOCATION = "revocation"
    TCB_INFO = "tcb-info"
    QE_IDENTITY = "qe-identity"
    SIGNATURE = "signature"
    TCB_STATUS = "tcb-status"
    ATTRIBUTES = "attributes"
    MEASUREMENT = "measurement"
    TRANSPARENCY = "transparency"
    CLAIMS = "claims"
    NONCE = "nonce"
    ROLE_AND_JOB = "role-and-job"
    KEY_BINDING = "key-binding"

    @property
    def number(self) -> int:
        """The step's number, from 1."""
        return list(Step).index(self) + 1

    @property
    def title(self) -> str:  # type: ignore[override]  # a step's value is never put in title case
        """What the step establishes, for people."""
        return _TITLES[self]


_TITLES = {
    Step.PARSE: "the quote parses",
    Step.TEE_TYPE: "it is an SGX enclave's quote",
    Step.CERTIFICATE_CHAIN: "the certificates lead to the pinned root and are in date",
    Step.REVOCATION: "no certificate is revoked, and the revocation lists are current",
    Step.TCB_INFO: "the TCB info is signed and current",
    Step.QE_IDENTITY: "a genuine quoting enclave made the quote",
    Step.SIGNATURE: "the quote's signatures hold",
    Step.TCB_STATUS: "the platform and its patch level are ones the policy accepts",
    Step.ATTRIBUTES: "the enclave's attributes are ones that protect it",
    Step.MEASUREMENT: "the enclave runs code the policy accepts",
    Step.TRANSPARENCY: "that code is in the transparency log, where the policy demands it",
    Step.CLAIMS: "the quote binds exactly these claims",
    Step.NONCE: "the evidence is fresh: it carries our nonce",
    Step.ROLE_AND_JOB: "it is the role and job we asked for",
    Step.KEY_BINDING: "it binds the keys that we are about to use",
}


@dataclass(frozen=True)
class StepResult:
    """One step's outcome: `detail` says what was compared."""

    step: Step
    passed: bool
    detail: str


class StepFailed(ChironError):
    """A step does not hold. `Appraisal.step` turns it into `EvidenceRefused`: it never leaves this folder."""

    code = "step-failed"


@dataclass
class Finding:
    """What a step compared, in words; filled in by the step itself."""

    detail: str = ""


class Appraisal:
    """The steps taken so far, in order. Each is entered once, and only after the one before it passed."""

    def __init__(self, steps: tuple[StepResult, ...] = ()) -> None:
        self.steps = steps

    def passed(self, step: Step, detail: str) -> None:
        """The step holds."""
        self.steps = (*self.steps, StepResult(step, True, detail))

    def refuse(self, step: Step, detail: str) -> EvidenceRefused:
        """The step does not hold: the error to raise."""
        return EvidenceRefused((*self.steps, StepResult(step, False, detail)))

    @contextmanager
    def step(self, step: Step) -> Iterator[Finding]:
        """Take one step: passed if the block ends, refused if it raises `StepFailed`.

        Raises:
            EvidenceRefused: it failed.
        """
        finding = Finding()
        try:
            yield finding
        except StepFailed as error:
            raise self.refuse(step, str(error)) from error
        self.passed(step, finding.detail)

    def check(self, step: Step, holds: bool, detail: str) -> None:
        """Appraisal the step, or end verification.

        Raises:
            EvidenceRefused: it does not hold.
        """
        if not holds:
            raise self.refuse(step, detail)
        self.passed(step, detail)
