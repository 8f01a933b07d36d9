"""`chiron attest`: verify or read evidence, of a running enclave or from a file."""

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
from chiron.cli.output import done, note, print_json, print_steps, print_table
from chiron.wire.attestation import AttestationPolicy, Claims, Evidence, Role

if TYPE_CHECKING:
    from chiron import StepResult
    from chiron.runtime.attestation.verify import VerifiedEvidence

MAX_EVIDENCE_BYTES = 2**20

app = group("Verify enclaves' evidence, or read what it says.")


@app.command("verify")
def verify_command(
    job: Annotated[str, typer.Argument(help="Job id, in full.")],
    role: Annotated[Role, typer.Option(help="Which of the job's enclaves.")] = Role.PARAMETER_SERVER,
    evidence: Annotated[
        Path | None, typer.Option(help="Evidence from a file instead of the gateway; needs --nonce.")
    ] = None,
    nonce: Annotated[str | None, typer.Option(metavar="HEX", help="With --evidence: your nonce.")] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="With --evidence of a predictor: digest of the key that signs for its model's owner.",
        ),
    ] = None,
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
    from chiron.cli.options import warn_of_unpinned

    accepted = chosen_policy(measurement, policy, trust_software_root, signer)
    try:
        if evidence is not None:
            warn_of_unpinned(accepted)
            verified = _from_file(evidence, nonce, accepted, role, job, owner)
        else:
            with client(accepted) as connection:
                verified = connection.verify_job(job, role)
    except EvidenceRejected as error:
        _show(error.steps, None, as_json=json)
        raise
    _show(verified.steps, verified.claims, as_json=json)


@app.command("show")
def show_command(
    place: Annotated[str, typer.Argument(metavar="JOB|FILE", help="Job id, in full, or an evidence file.")],
    role: Annotated[Role, typer.Option(help="Which of the job's enclaves.")] = Role.PARAMETER_SERVER,
    json: Json = False,
) -> None:
    """Read out what evidence says of an enclave and its machine. Nothing of it is verified.

    It tells what a policy can pin: measurement, signer, PPID, platform instance and FMSPC.

    **Example**: `chiron attest show evidence.json --json`
    """
    from chiron.client.evidence_facts import read_facts

    path = Path(place)
    if path.is_file():
        evidence = _evidence(path)
    else:
        with client() as connection:
            evidence = connection.evidence(place, role)
    facts = read_facts(evidence).named
    if json:
        print_json(facts)
        return
    note("what the evidence says; nothing of it is verified (`chiron attest verify`)")
    print_table(("fact", "value"), [(name, _told(value)) for name, value in facts.items()])


def _told(value: "str | int | bool | None") -> str:
    """A fact for people."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _evidence(path: Path) -> Evidence:
    from pydantic import ValidationError

    from chiron import ConfigurationInvalid
    from chiron.wire.bounded import read_file
    from chiron.wire.errors import LimitExceeded

    try:
        return Evidence.model_validate_json(read_file(path, MAX_EVIDENCE_BYTES))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, fault["loc"])) or "the file"
        raise ConfigurationInvalid(f"{path} holds no evidence: {field}: {fault['msg']}") from error
    except (OSError, ValueError, LimitExceeded) as error:
        raise ConfigurationInvalid(f"{path} holds no evidence") from error


def _from_file(
    path: Path, nonce: str | None, policy: AttestationPolicy, role: Role, job: str, owner: str | None
) -> "VerifiedEvidence":
    from datetime import UTC, datetime

    from chiron import ConfigurationInvalid, EvidenceRejected
    from chiron.runtime.attestation.verify import Expected, verify
    from chiron.runtime.errors import EvidenceRefused

    if nonce is None:
        raise ConfigurationInvalid("--evidence needs --nonce: without it, old evidence would pass for fresh")
    try:
        fresh = bytes.fromhex(nonce.lower().removeprefix("0x"))
        expected = Expected(role, job, fresh, owner_key_sha256=owner)
    except ValueError as error:
        raise ConfigurationInvalid("the nonce is not hexadecimal") from error
    evidence = _evidence(path)
    try:
        return verify(evidence, policy, expected, datetime.now(UTC))
    except EvidenceRefused as error:
        raise EvidenceRejected(str(error), code=error.code, steps=error.steps) from error


def _show(steps: "tuple[StepResult, ...]", verified: Claims | None, *, as_json: bool) -> None:
    """The steps, and of evidence that holds whose model the enclave serves."""
    owner = verified and verified.owner_key_sha256
    if as_json:
        listed = [
            {"number": s.step.number, "step": s.step.value, "passed": s.passed, "detail": s.detail}
            for s in steps
        ]
        print_json({"verified": verified is not None, "model_owner": owner, "steps": listed})
        return
    print_steps(steps)
    if owner:
        note(f"model of owner: {owner}")
    if verified:
        done("verified")
