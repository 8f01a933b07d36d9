"""`chiron attest`: verify evidence, of a running enclave or from a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import (
    Json,
    Measurement,
    PolicyFile,
    Signer,
    SoftwareRoot,
    chosen_policy,
    client,
    group,
)
from chiron.cli.output import done, print_json, print_steps
from chiron.wire.attestation import AttestationPolicy, Role

if TYPE_CHECKING:
    from chiron import StepResult

app = group("Verify enclaves' evidence.")


@app.callback()
def _group() -> None:
    """Keeps `verify` a subcommand."""


@app.command("verify")
def verify_command(
    job: Annotated[str, typer.Argument(help="Job id, in full.")],
    role: Annotated[Role, typer.Option(help="Which of the job's enclaves.")] = Role.PARAMETER_SERVER,
    evidence: Annotated[
        Path | None, typer.Option(help="Evidence from a file instead of the gateway; needs --nonce.")
    ] = None,
    nonce: Annotated[str | None, typer.Option(metavar="HEX", help="With --evidence: your nonce.")] = None,
    measurement: Measurement = None,
    signer: Signer = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    json: Json = False,
) -> None:
    """Verify an enclave's evidence step by step; nothing is granted.

    **Example**: `chiron attest verify 1c0e… --measurement 4f0c…`
    """
    from chiron import EvidenceRejected

    accepted = chosen_policy(measurement, policy, trust_software_root, signer)
    try:
        if evidence is not None:
            steps = _from_file(evidence, nonce, accepted, role, job)
        else:
            with client(accepted) as connection:
                steps = connection.verify_job(job, role).steps
    except EvidenceRejected as error:
        _show(error.steps, verified=False, as_json=json)
        raise
    _show(steps, verified=True, as_json=json)


def _from_file(
    path: Path, nonce: str | None, policy: AttestationPolicy, role: Role, job: str
) -> "tuple[StepResult, ...]":
    from datetime import UTC, datetime

    from chiron import ConfigurationInvalid, EvidenceRejected
    from chiron.runtime.attestation.verify import Expected, verify
    from chiron.runtime.errors import EvidenceRefused
    from chiron.wire.attestation import Evidence

    if nonce is None:
        raise ConfigurationInvalid("--evidence needs --nonce: without it, old evidence would pass for fresh")
    try:
        expected = Expected(role, job, bytes.fromhex(nonce))
        evidence = Evidence.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(f"{path} holds no evidence, or the nonce is not hexadecimal") from error
    try:
        return verify(evidence, policy, expected, datetime.now(UTC)).steps
    except EvidenceRefused as error:
        raise EvidenceRejected(str(error), code=error.code, steps=error.steps) from error


def _show(steps: "tuple[StepResult, ...]", *, verified: bool, as_json: bool) -> None:
    if as_json:
        listed = [
            {"number": s.step.number, "step": s.step.value, "passed": s.passed, "detail": s.detail}
            for s in steps
        ]
        print_json({"verified": verified, "steps": listed})
        return
    print_steps(steps)
    if verified:
        done("verified")
