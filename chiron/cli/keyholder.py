"""`chiron keyholder`: the owner's side of unattended operation."""

import asyncio
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import (
    Json,
    Measurement,
    PolicyFile,
    Signer,
    SoftwareRoot,
    chosen_policy,
    find_job,
    single,
)
from chiron.cli.output import done, fail, note, print_json, warn
from chiron.wire import codes

if TYPE_CHECKING:
    from chiron import AttestationPolicy
    from chiron.client.history import Deed
    from chiron.client.keyholder import Facts

app = single()


@app.command("keyholder")
def keyholder_command(
    jobs: Annotated[list[str] | None, typer.Argument(help="Jobs, by id; all in your store if none.")] = None,
    measurement: Measurement = None,
    signer: Signer = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    max_openings: Annotated[
        int, typer.Option(min=1, max=10_000, help="Openings in any hour, of all jobs together.")
    ] = 12,
    json: Json = False,
) -> None:
    """Open again, while you are away, what a host has started again.

    A job's enclaves that were started again (a crash, an update, a reboot) wait for you, and so does every
    predictor that somebody started, a holder of your pass for one. This looks for them until Ctrl-C or
    SIGTERM, verifies each against the policy that you name, or else the one that its job was granted under,
    sends the same grant again, or opens the model for a day to you and the passes in force, and writes each
    opening into the job's history. It starts nothing. What the policy does not accept, and grants that have
    expired, get nothing.

    It needs your store, with your datasets' keys: run it where you trust the machine as much as this one.

    **Example**: `chiron keyholder`

    **Example**: `chiron keyholder 1c0e --policy policy.toml --max-openings 4`
    """
    from chiron import OwnerStore

    named = measurement or signer or policy or trust_software_root
    accepted = chosen_policy(measurement, policy, trust_software_root, signer) if named else None
    if accepted is not None and accepted.software_root is not None:
        warn("a SOFTWARE root is trusted: this TEE is for development, the operator can read everything")
    store = OwnerStore()
    ids = [find_job(store, job).spec.job for job in jobs] if jobs else None
    asyncio.run(_keep(ids, accepted, max_openings, once=once, as_json=json))


async def _keep(
    jobs: list[str] | None,
    policy: "AttestationPolicy | None",
    most_an_hour: int,
    *,
    once: bool,
    as_json: bool,
) -> None:
    from chiron import AsyncClient
    from chiron.client.keyholder import Keyholder

    def tell(job: str, deed: "Deed", facts: "Facts") -> None:
        _tell(job, deed, facts, as_json=as_json)

    async with AsyncClient() as client:
        keyholder = Keyholder(client, jobs=jobs, policy=policy, most_an_hour=most_an_hour, told=tell)
        if once:
            if not await keyholder.look():
                fail(codes.GATEWAY_UNREACHABLE, "nobody answers: is CHIRON_URL right, and the gateway up?")
                raise typer.Exit(1)
            return
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        note("watching for what was started again; Ctrl-C ends it")
        await keyholder.run(stopping)


def _tell(job: str, deed: "Deed", facts: "Facts", *, as_json: bool) -> None:
    from chiron.client.history import Deed

    if as_json:
        print_json({"job": job, "did": deed.value, **facts})
    elif deed is Deed.REFUSED:
        warn(f"job {job}: nothing was sent: [{facts['code']}] {facts['reason']}")
    elif deed is Deed.OPENED:
        until = datetime.fromtimestamp(int(facts["until"]), UTC)
        rows, passes = facts.get("rows", "any number of"), facts["passes"]
        done(
            f"job {job}: predictor verified and opened ({facts['measurement']})"
            f" until {until:%Y-%m-%d %H:%M} UTC: {rows} rows for you, {passes} passes"
        )
    else:
        done(f"job {job} was started again: verified and opened again ({facts['measurement']})")
