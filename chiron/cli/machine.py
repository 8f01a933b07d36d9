"""`chiron machine`: machines that what your jobs make is kept for, beside those that they run on."""

from datetime import UTC, datetime
from typing import Annotated

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

Name = Annotated[str, typer.Argument(metavar="NAME", help="Your name for it, like `paris-2`.")]

app = group("Machines that your models are kept for, beside the one that a job runs on.")


@app.command("add")
def add_command(
    name: Name,
    measurement: Measurement = None,
    signer: Signer = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    json: Json = False,
) -> None:
    """Verify the machine of the gateway that CHIRON_URL names, and keep its key under a name.

    `chiron train … --machines NAME` then has enclaves seal the model, and all that they keep, for it too:
    there the same code opens them, with your share. So a model outlives the machine that it was made on.

    Add it again when the enclave image changes, and when `chiron train` says that its evidence is too old.

    **Example**: `chiron machine add paris-2 --policy policy.toml`
    """
    from chiron import EvidenceRejected
    from chiron.client.machines import MachineBook

    with client(chosen_policy(measurement, policy, trust_software_root, signer)) as connection:
        try:
            verified = connection.add_machine(name)
        except EvidenceRejected as error:
            print_steps(error.steps)
            raise
        record = MachineBook(connection.store).named(name)
    if json:
        print_json({"machine": name, "measurement": record.measurement, "key": record.key_name})
        return
    print_steps(verified.steps)
    done(f"added {name}: key {record.key_name} of code {record.measurement}")
    note("next: tell this key to the operator of each gateway that is to train for it; then")
    note(f"  chiron train … --machines {name}")


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the machines that you have added.

    **Example**: `chiron machine list`
    """
    from chiron import OwnerStore
    from chiron.client.machines import MachineBook

    known = MachineBook(OwnerStore()).all()
    rows = [
        {
            "machine": record.name,
            "added": datetime.fromtimestamp(record.added_at, UTC).date().isoformat(),
            "key": record.key_name,
            "measurement": record.measurement,
            "ppid": record.ppid,
        }
        for record in known
    ]
    if json:
        print_json({"machines": rows})
        return
    print_table(("machine", "added", "key", "measurement", "ppid"), [tuple(row.values()) for row in rows])


@app.command("remove")
def remove_command(name: Name) -> None:
    """Forget a machine. What was sealed for it stays so: a grant that has named it is not changed.

    **Example**: `chiron machine remove paris-2`
    """
    from chiron import OwnerStore
    from chiron.client.machines import MachineBook

    MachineBook(OwnerStore()).remove(name)
    done(f"removed {name}")
