"""The steps taken so far: verification ends where one does not hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chiron.runtime.attestation.errors import EvidenceRefused
from chiron.runtime.attestation.steps import Step, StepResult
from chiron.wire.errors import ChironError


class StepFailed(ChironError):
    """Raised inside a step with what did not hold; never leaves `chiron.runtime.attestation`."""

    code = "step-failed"


@dataclass
class Told:
    """What a step says that it compared."""

    detail: str = ""


class Record:
    """Results in order. A step is entered once, and only after the one before it passed."""

    def __init__(self, steps: tuple[StepResult, ...] = ()) -> None:
        self.steps = steps

    def passed(self, step: Step, detail: str) -> None:
        """The step holds."""
        self.steps = (*self.steps, StepResult(step, True, detail))

    def refuse(self, step: Step, detail: str) -> EvidenceRefused:
        """The step does not hold: the error to raise."""
        return EvidenceRefused((*self.steps, StepResult(step, False, detail)))

    @contextmanager
    def step(self, step: Step) -> Iterator[Told]:
        """Take one step: passed if the block ends, refused if it raises `StepFailed`.

        Raises:
            EvidenceRefused: it failed.
        """
        told = Told()
        try:
            yield told
        except StepFailed as error:
            raise self.refuse(step, str(error)) from error
        self.passed(step, told.detail)

    def check(self, step: Step, holds: bool, detail: str) -> None:
        """Record the step, or end verification.

        Raises:
            EvidenceRefused: it does not hold.
        """
        if not holds:
            raise self.refuse(step, detail)
        self.passed(step, detail)
