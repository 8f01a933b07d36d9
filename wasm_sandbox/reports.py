"""The worker process's reports as strict schemas: a builder that broke out of the engine may be speaking."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from chiron.wasm_sandbox.codec import Bounds, Buffer, Frame, Kind
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wire.contract import Capability, ContractModel

MAX_COMPILED_BYTES = 512 * 2**20
"""A Python component's compiled form has 34 MB."""
_REPORT_BYTES = 65_536

Severity = Literal["debug", "info", "warning", "error"]


class Confined(ContractModel):
    """What the kernel had of the second wall (`chiron.wasm_sandbox.confinement`)."""

    landlock: bool
    seccomp: bool


class CompileReport(ContractModel):
    """The report in a `COMPILED` frame."""

    capabilities: tuple[Capability, ...]
    revises: bool
    confinement: Confined


class Logged(ContractModel):
    """What the builder logged: counted always, kept only for the builder's own author."""

    log_lines: int = Field(ge=0, le=2**62)
    log: tuple[tuple[Severity, str], ...] = ()


class RunReport(Logged):
    """The report in an `ANSWERED` frame."""

    present: bool
    """False: `revise` had no better idea."""
    fuel: int = Field(ge=0, le=2**62)
    confinement: Confined


class FailureReport(Logged):
    """The report in a `FAILED` frame."""

    code: Code
    detail: Annotated[str, StringConstraints(max_length=2_000)]
    confinement: Confined

    def error(self) -> SandboxError:
        """The report as an exception.

        The worker may blame the component, the builder or its plan; nothing else.
        """
        if self.code is Code.CAPABILITY_NOT_GRANTED and self.detail not in set(Capability):
            return failure(Code.SANDBOX_PROTOCOL, "an unknown capability")
        if self.code.startswith(("sandbox-", "cache-")):
            return failure(Code.SANDBOX_PROTOCOL, "a code that is not the worker's to give")
        return failure(self.code, self.detail)


def compile_bounds(*, keep: bool) -> Bounds:
    """Bounds of the answers to a `COMPILE` frame."""
    return {
        Kind.COMPILED: (_REPORT_BYTES, MAX_COMPILED_BYTES if keep else 0),
        Kind.FAILED: (_REPORT_BYTES,),
    }


def run_bounds(limits: SandboxLimits, *, keep_log: bool) -> Bounds:
    """Bounds of the answers to a `RUN` frame."""
    # JSON writes a byte as six at most; a line has its quotes and severity besides.
    report = _REPORT_BYTES + (6 * limits.log_bytes + 32 * limits.log_lines if keep_log else 0)
    return {Kind.ANSWERED: (report, limits.graph_bytes, limits.recipe_bytes), Kind.FAILED: (report,)}


Report = TypeVar("Report", bound=ContractModel)


def parse(schema: type[Report], part: Buffer) -> Report:
    """The report in a frame's first part; raises `SandboxFailed` (`sandbox-protocol`)."""
    try:
        return schema.model_validate_json(part)
    except ValidationError as error:
        raise failure(Code.SANDBOX_PROTOCOL, f"{error.error_count()} errors in a report") from None


def failure_in(frame: Frame) -> FailureReport | None:
    """The report of a `FAILED` frame, else None."""
    return parse(FailureReport, frame.parts[0]) if frame.kind is Kind.FAILED else None
