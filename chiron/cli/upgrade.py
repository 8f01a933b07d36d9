"""`chiron upgrade`: a model moves to newer enclave code, by its owner's order."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import (
    Json,
    Machines,
    Measurement,
    PolicyFile,
    Signer,
    SoftwareRoot,
    Yes,
    chosen_machines,
    chosen_policy,
    client,
    find_job,
    single,
)
from chiron.cli.output import done, note, print_json, print_steps, tell_opened

if TYPE_CHECKING:
    from chiron import AttestationPolicy, JobRecord

app = single()


@app.command("upgrade")
def upgrade_command(
    job: Annotated[str, typer.Argument(help="Job id, or the beginning of one.")],
    measurement: Measurement = None,
    signer: Signer = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    machines: Machines = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Move a job's model to newer enclave code that you name.

    Until then it is sealed to the old code. The newer enclave is verified here. The older one hands the model
    over only by your signed order, and only to that very enclave; the operator carries what it cannot read.
    With --measurement alone, everything else is as in the policy that the job was granted under, its signers
    too. From then on `chiron predict` accepts the newer code.

    **Example**: `chiron upgrade 1c0e --measurement 9b2d…`
    """
    from chiron import EvidenceRejected, OwnerStore

    record = find_job(OwnerStore(), job)
    accepted = _new_policy(record, measurement, policy, trust_software_root, signer)
    note(f"the model of job {record.spec.job} will be handed over")
    note("  from enclave code " + _named(record.policy))
    note("  to enclave code " + _named(accepted))
    if not yes:
        typer.confirm("Order it?", abort=True)
    with client(accepted) as connection:
        try:
            verified = connection.upgrade(record.spec.job, tell_opened, machines=chosen_machines(machines))
        except EvidenceRejected as error:
            print_steps(error.steps)
            raise
    if json:
        print_json({"job": record.spec.job, "measurement": verified.quote.measurement})
        return
    print_steps(verified.steps)
    done(f"the model is sealed to {verified.quote.measurement}, which answers for it now")


def _new_policy(
    record: "JobRecord",
    measurement: list[str] | None,
    policy: Path | None,
    software_root: Path | None,
    signer: list[str] | None,
) -> "AttestationPolicy":
    from chiron import PolicyMissing, UpgradeImpossible
    from chiron.client.verifying import HOW_TO_GET_A_MEASUREMENT, software_root_der

    if policy is not None:
        return chosen_policy(measurement, policy, software_root, signer)
    if record.policy is None:
        raise UpgradeImpossible("the job had no grant from this machine: nothing says what to accept")
    if not measurement:
        raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
    named = chosen_policy(measurement, None, None, signer)
    root = software_root_der(software_root) if software_root else record.policy.software_root
    return record.policy.model_copy(
        update={
            "measurements": named.measurements,
            "signers": named.signers or record.policy.signers,
            "software_root": root,
        }
    )


def _named(policy: "AttestationPolicy | None") -> str:
    if policy is None:
        return "that nothing names"
    return ", ".join(sorted(policy.measurements)) or "signed by " + ", ".join(sorted(policy.signers))
