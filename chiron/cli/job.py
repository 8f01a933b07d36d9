"""`chiron job`: what became of jobs, and what the operator saw of them."""

from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import Json, client, find_job, group
from chiron.cli.output import done, note, print_json, print_table

if TYPE_CHECKING:
    from chiron import Outcome, TrainingReport
    from chiron.client.attested import AttestedOpening

app = group("List, show and cancel jobs; see what the operator saw.")
JobArgument = Annotated[str, typer.Argument(help="Job id, or the beginning of one.")]


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the jobs of your API key.

    **Example**: `chiron job list`
    """
    with client() as connection:
        jobs = connection.jobs()
    if json:
        print_json(
            [job.model_dump(mode="json", exclude={"spec": {"dataset": {"chunk_sha256"}}}) for job in jobs]
        )
        return
    print_table(
        ["job", "state", "exchanges", "created"],
        [
            (
                job.spec.job,
                job.state + (f" ({job.failure})" if job.failure else ""),
                f"{job.exchanges_done}/{job.spec.exchange.exchanges}",
                job.created_at,
            )
            for job in jobs
        ],
    )


@app.command("show")
def show_command(job: JobArgument, json: Json = False) -> None:
    """Show a job: its public state, and the reports and outcome that only you can read.

    **Example**: `chiron job show 1c0e`
    """
    from chiron import JobState, OwnerStore

    job_id = find_job(OwnerStore(), job).spec.job
    with client() as connection:
        public = connection.job(job_id)
        reports = connection.reports(job_id)
        outcome = connection.outcome(job_id) if public.state is JobState.SUCCEEDED else None
    if json:
        print_json(
            {
                "job": job_id,
                "state": public.state.value,
                "failure": public.failure.value if public.failure else None,
                "exchanges_done": public.exchanges_done,
                "reports": [report.model_dump(mode="json") for report in reports],
                "outcome": outcome.model_dump(mode="json") if outcome else None,
            }
        )
        return
    note(
        f"job {job_id}: {public.state}, {public.exchanges_done} of {public.spec.exchange.exchanges} exchanges"
    )
    _print_reports(reports)
    _print_outcome(outcome)


def _print_reports(reports: "list[TrainingReport]") -> None:
    if reports:
        print_table(
            ["exchange", "loss", "validation loss", "validation accuracy"],
            [
                (r.exchange, *map(_number, (r.train_loss, r.validation_loss, r.validation_accuracy)))
                for r in reports
            ],
        )


def _print_outcome(outcome: "Outcome | None") -> None:
    if outcome is not None:
        note(f"outcome: {outcome.status} [{outcome.code}] {outcome.detail}".rstrip())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@app.command("cancel")
def cancel_command(job: JobArgument) -> None:
    """Cancel a job; what it has learnt is lost.

    **Example**: `chiron job cancel 1c0e`
    """
    from chiron import OwnerStore

    job_id = find_job(OwnerStore(), job).spec.job
    with client() as connection:
        connection.cancel(job_id)
    done(f"cancelled job {job_id}")


@app.command("observations")
def observations_command(job: JobArgument, json: Json = False) -> None:
    """Show all that the operator's side stored and relayed for a job: names and sizes of ciphertext.

    Two jobs of the same spec and dataset shape look the same here, whatever the data.

    **Example**: `chiron job observations 1c0e`
    """
    from chiron import OwnerStore

    job_id = find_job(OwnerStore(), job).spec.job
    with client() as connection:
        observations = connection.observations(job_id)
    if json:
        print_json([seen.model_dump(mode="json") for seen in observations])
        return
    print_table(
        ["kind", "name", "bytes"], [(seen.kind, seen.name, f"{seen.size:,}") for seen in observations]
    )


@app.command("forget")
def forget_command(
    job: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Destroy your keys of a job, so that nobody opens its model again; then have the gateway delete it.

    A job that still runs is cancelled, its predictor stopped. Your history of the job stays. If the gateway
    cannot be reached, the keys are destroyed all the same: the same command again completes the rest.

    **Example**: `chiron job forget 1c0e`
    """
    from chiron.cli.forget import forget

    forget("jobs", job, yes=yes, json=json)


@app.command("history")
def history_command(job: JobArgument, json: Json = False) -> None:
    """Show what your side did with a job, and what its predictors attest that they answered.

    What you did is an append-only record of which a later edit shows. What they answered is signed by keys
    that their verified evidence named; the operator's word is not needed for it.

    The last line's digest is told: note it elsewhere, and a record that was written anew shows as well.

    **Example**: `chiron job history 1c0e`
    """
    from chiron import OwnerStore
    from chiron.cli.options import unique
    from chiron.client.attested import AttestedBook
    from chiron.client.history import History

    store = OwnerStore()
    known = {path.stem for path in (store.root / "history").glob("*.jsonl")}
    name = unique(job, known, "job")
    history = History(store, name)
    entries, head = history.entries(), history.head()
    attested = AttestedBook(store).read(name)
    if json:
        did = [entry.model_dump(mode="json") for entry in entries]
        answered = [opening.model_dump(mode="json") for opening in attested]
        print_json({"entries": did, "head": head, "attested": answered})
        return
    print_table(
        ["time", "what", "with"],
        [
            (entry.at, entry.did.value, ", ".join(f"{name} {value}" for name, value in entry.facts.items()))
            for entry in entries
        ],
    )
    note(f"head {head}")
    if attested:
        print_table(
            ["opening", "predictor", "queries", "rows attested", "settled"],
            [_attested_row(opening) for opening in attested],
        )


def _attested_row(opening: "AttestedOpening") -> tuple[object, ...]:
    settled, stated = opening.settlement, opening.statement
    if settled is not None:
        said = settled.settlement
        rows = said.rows + sum(one.rows for one in said.passes)
        return opening.opening, opening.predictor_key_sha256[:16], said.queries, rows, "yes"
    queries, rows = (stated.statement.queries, stated.statement.rows) if stated else (0, 0)
    return opening.opening, opening.predictor_key_sha256[:16], queries, rows, "no"
