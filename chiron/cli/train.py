"""`chiron train`: create a job, verify its enclave step by step, grant, watch, and read the outcome."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
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
    find_dataset,
    single,
)
from chiron.cli.output import done, fail, note, print_json, print_steps, progress_bar
from chiron.wire.contract import Capability, CapabilityGrants, Oblivious
from chiron.wire.exchange import ExchangeMode
from chiron.wire.grants import Restarts

if TYPE_CHECKING:
    from chiron import BuilderInfo, Finished, Job, JobRequest, Stage, TrainingReport
    from chiron.client.store import GrantTerms

app = single()
HARMLESS = CapabilityGrants().granted | {Capability.RANDOM}
"""These tell a builder nothing of the data's values, so `--yes` alone may grant them."""


@app.command("train")
def train_command(
    dataset: Annotated[str, typer.Argument(help="Dataset id, or the directory that was uploaded.")],
    builder: Annotated[
        str, typer.Argument(help="publisher/name@version, or SHA-256; `chiron builder list`.")
    ],
    measurement: Measurement = None,
    signer: Signer = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    trainers: Annotated[int, typer.Option(min=1, max=1024, help="Trainer enclaves.")] = 2,
    exchanges: Annotated[int, typer.Option(min=1, help="Times the trainers meet; fixed and public.")] = 20,
    shards: Annotated[int, typer.Option(min=1, max=64, help="Servers that share the exchanged vector.")] = 1,
    trials: Annotated[int, typer.Option(min=1, max=64, help="Plans the builder may try.")] = 1,
    mode: Annotated[ExchangeMode, typer.Option(help="How trainers meet.")] = ExchangeMode.LOCAL,
    validation: Annotated[int, typer.Option(min=0, max=50, help="Percent of rows to validate on.")] = 10,
    query_rows: Annotated[int, typer.Option(min=1, max=4096, help="Rows of one sealed query.")] = 64,
    oblivious: Annotated[
        Oblivious, typer.Option(help="Whether addresses that data decide are held to bounds, or avoided.")
    ] = Oblivious.CLAMPED,
    seed: Annotated[int, typer.Option(min=0, help="Of the initial weights and the shuffles.")] = 0,
    grant: Annotated[
        list[Capability] | None, typer.Option(help="A capability for the builder; may be repeated.")
    ] = None,
    sample_examples: Annotated[int, typer.Option(help="Examples that dataset-sample may show.")] = 32,
    top_k: Annotated[int, typer.Option(min=0, help="Classes told per prediction; 0 tells all.")] = 0,
    decimals: Annotated[int, typer.Option(min=0, max=9, help="Decimals of scores.")] = 6,
    query_budget: Annotated[int | None, typer.Option(min=1, help="Rows answered in all.")] = None,
    restarts: Annotated[
        Restarts,
        typer.Option(help="Who lets enclaves go on that were started again: you, or the host alone."),
    ] = Restarts.OWNER,
    machines: Machines = None,
    grant_days: Annotated[
        int, typer.Option(min=1, max=3650, help="Days after which no enclave takes the grant up any more.")
    ] = 30,
    unpaced: Annotated[
        bool, typer.Option("--unpaced", help="Keep no slots: faster, but time tells of your data.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Train a builder's model on your encrypted data.

    Before your key leaves this machine, the enclave's evidence is verified in front of you, step by step,
    against the measurement you name; then you are told what is granted, and asked.

    A builder's name, like `lab/digits-mlp@1.0.0`, may be shortened as long as it fits one builder. It is the
    operator's word; the SHA-256 that you are shown is what runs: give that, and nothing else is taken.

    **Example**: `chiron train digits.enc lab/digits-mlp@1.0.0 --measurement 4f0c… --trainers 2`

    **Example**: `chiron train digits.enc digits-mlp -m 4f0c… --trust-software-root root.pem --yes`
    """
    from chiron import EvidenceRejected, ExchangeTerms, JobRequest, OwnerStore, PredictionPolicy
    from chiron.client.builders import remember
    from chiron.client.granting import new_terms
    from chiron.client.machines import MachineBook

    accepted = chosen_policy(measurement, policy, trust_software_root, signer)
    record = find_dataset(OwnerStore(), dataset)
    kept_for = chosen_machines(machines)
    prediction = PredictionPolicy(top_k=top_k, decimals=decimals, query_budget=query_budget)
    with client(accepted) as connection:
        info = connection.find_builder(builder)
        capabilities = agreed_capabilities(info.capabilities, grant, sample_examples, may_ask=not yes)
        terms = new_terms(
            datetime.now(UTC),
            capabilities=capabilities,
            prediction=prediction,
            restarts=restarts,
            machines=MachineBook(connection.store).keys(kept_for),
            days=grant_days,
        )
        request = JobRequest(
            dataset_id=record.manifest.dataset_id,
            builder_sha256=info.sha256,
            builder_publisher=info.publisher,
            trainers=trainers,
            exchanges=exchanges,
            seed=seed,
            trials=trials,
            validation_percent=validation,
            query_rows=query_rows,
            oblivious=oblivious,
            mode=mode,
            terms=ExchangeTerms(shards=shards, unpaced=unpaced),
        )
        # Closed whatever happens: a job that was not granted is cancelled then.
        with closing(
            connection.training(
                request,
                capabilities=capabilities,
                prediction=prediction,
                restarts=restarts,
                machines=kept_for,
                grant_days=grant_days,
            )
        ) as stages:
            try:
                job = _grant(stages, info, lambda: _agree(info, terms, request, yes=yes))
                remember(connection.store, info)
            except EvidenceRejected as error:
                print_steps(error.steps)
                raise
            finished = _follow(stages, job)
    _conclude(finished, info, as_json=json)


def _grant(stages: "Iterator[Stage]", builder: "BuilderInfo", agree: Callable[[], None]) -> "Job":
    """Show everything up to the grant, which follows the first evidence only if the owner agrees."""
    from chiron import Created, Granted, Verified
    from chiron.client.builders import in_words

    for stage in stages:
        match stage:
            case Created(job):
                note(f"job {job.spec.job}: {in_words(builder)}, {job.spec.exchange.trainers} trainers")
                note("evidence of the parameter server, over our fresh nonce:")
            case Verified(evidence, again):
                if again:
                    note("the gateway or its enclave was restarted: it is verified again")
                print_steps(evidence.steps)
                done(f"verified: measurement {evidence.quote.measurement}")
                if not again:
                    agree()
            case Granted():
                done("granted: the dataset's key is sealed to the verified enclave")
                break
    return job


def _agree(builder: "BuilderInfo", terms: "GrantTerms", request: "JobRequest", *, yes: bool) -> None:
    from chiron.client.granting import grant_in_words

    note("You grant:")
    unpaced, oblivious = request.terms.unpaced, request.oblivious
    for line in grant_in_words(terms, builder, unpaced=unpaced, oblivious=oblivious):
        note(f"  • {line}")
    if not yes:
        typer.confirm("Send this grant?", abort=True, err=True)


def _follow(stages: "Iterator[Stage]", job: "Job") -> "Finished":
    from chiron import EvidenceRejected, Finished, Granted, Progressed

    try:
        with progress_bar("training", "exchanges") as advance:
            for stage in stages:
                match stage:
                    case Finished():
                        return stage
                    case Progressed(now):
                        advance(now.exchanges_done, now.spec.exchange.exchanges)
                    case Granted(evidence):
                        measurement = evidence.quote.measurement
                        done(f"started again: verified and opened again, measurement {measurement}")
    except EvidenceRejected as error:
        print_steps(error.steps)
        raise
    except KeyboardInterrupt:
        note(f"the job goes on without you: chiron job show {job.spec.job[:8]}")
        note("an enclave that is started again waits for you: chiron keyholder")
        raise
    raise AssertionError("training ends with Finished, or with an error")


def _conclude(finished: "Finished", builder: "BuilderInfo", *, as_json: bool) -> None:
    from chiron import OutcomeStatus

    job, outcome = finished.job, finished.outcome
    final = outcome.metrics or (finished.reports[-1] if finished.reports else None)
    if as_json:
        print_json(
            {
                "job": job.spec.job,
                "builder": builder.full_name,
                "builder_sha256": builder.sha256,
                "status": outcome.status.value,
                "code": outcome.code,
                "detail": outcome.detail,
                "measurement": finished.evidence.quote.measurement,
                "evidence_verified": True,
                "metrics": final.model_dump(mode="json") if final else None,
                "exchanges": job.exchanges_done,
            }
        )
    elif outcome.status is OutcomeStatus.TRAINED:
        done(f"trained; {_in_words(final)}")
        note(f"next: chiron predict {job.spec.job} --held-out")
    if outcome.status is not OutcomeStatus.TRAINED:
        fail(outcome.code, f"the job ran its schedule without a usable model: {outcome.detail}")
        raise typer.Exit(1)


def _in_words(report: "TrainingReport | None") -> str:
    if report is None:
        return "no metrics were reported"
    named = {
        "loss": report.train_loss,
        "validation loss": report.validation_loss,
        "validation accuracy": report.validation_accuracy,
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in named.items() if value is not None)


def agreed_capabilities(
    wanted: Iterable[Capability], named: Sequence[Capability] | None, sample_examples: int, *, may_ask: bool
) -> CapabilityGrants:
    """The grants for a builder that imports `wanted`. Where nothing is named and nobody can be asked, no
    capability that shows data is given.

    Raises:
        ConfigurationInvalid: the builder needs what is not granted; it could not run.
    """
    from chiron import ConfigurationInvalid

    needed = frozenset(wanted)
    granted = frozenset(named) if named is not None else needed
    if missing := needed - granted:
        raise ConfigurationInvalid(
            f"the builder needs {_list(missing)}, which you do not grant: it could not run",
            code="capability-not-granted",
        )
    if named is None and not may_ask and (telling := needed - HARMLESS):
        raise ConfigurationInvalid(
            f"the builder asks for {_list(telling)}, which shows it something of your data: grant it by name "
            f"({' '.join(f'--grant {name}' for name in sorted(telling))}), or leave out --yes to be asked",
            code="capability-not-granted",
        )
    sampled = sample_examples if Capability.DATASET_SAMPLE in granted else 0
    return CapabilityGrants(granted=granted, sample_examples=sampled)


def _list(capabilities: Iterable[Capability]) -> str:
    return ", ".join(sorted(capabilities))
