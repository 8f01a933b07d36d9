"""`chiron train`: create a job, verify its enclave step by step, grant, watch, and read the outcome."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from chiron.cli.grants import agreed_capabilities
from chiron.cli.lookup import find_builder, find_dataset
from chiron.cli.options import Json, Measurement, PolicyFile, SoftwareRoot, Yes, chosen_policy, client
from chiron.cli.output import done, fail, note, print_json, print_steps, progress_bar
from chiron.client.client import Client
from chiron.client.errors import EvidenceRejected, GatewayError
from chiron.client.granting import grant_in_words
from chiron.client.jobs import raise_if_ended_badly
from chiron.client.store import OwnerStore
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.wire import codes
from chiron.wire.contract import Capability, CapabilityGrants
from chiron.wire.exchange import ExchangeMode, ExchangeTerms
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import Job, JobRequest, JobState
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport

GRANT_ATTEMPTS = 5
_RESTARTED = frozenset(
    {
        codes.GATEWAY_UNREACHABLE,
        codes.ENCLAVE_GONE,
        codes.ENCLAVE_NOT_RUNNING,
        codes.ENCLAVE_TIMEOUT,
        codes.GRANT_UNREADABLE,
    }
)
"""Codes after which the parameter server may be another process than the one that was verified."""


def train_command(
    dataset: Annotated[str, typer.Argument(help="Dataset id, or the directory that was uploaded.")],
    builder: Annotated[str, typer.Argument(help="Builder's name or SHA-256 (`chiron builder list`).")],
    measurement: Measurement = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    trainers: Annotated[int, typer.Option(min=1, max=1024, help="Trainer enclaves.")] = 2,
    exchanges: Annotated[int, typer.Option(min=1, help="Times the trainers meet; fixed and public.")] = 20,
    shards: Annotated[int, typer.Option(min=1, max=64, help="Servers that share the exchanged vector.")] = 1,
    trials: Annotated[int, typer.Option(min=1, max=64, help="Plans the builder may try.")] = 1,
    mode: Annotated[ExchangeMode, typer.Option(help="How trainers meet.")] = ExchangeMode.LOCAL,
    validation: Annotated[int, typer.Option(min=0, max=50, help="Percent of rows to validate on.")] = 10,
    query_rows: Annotated[int, typer.Option(min=1, max=4096, help="Rows of one sealed query.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the initial weights and the shuffles.")] = 0,
    grant: Annotated[
        list[Capability] | None, typer.Option(help="A capability for the builder; may be repeated.")
    ] = None,
    sample_examples: Annotated[int, typer.Option(help="Examples that dataset-sample may show.")] = 32,
    top_k: Annotated[int, typer.Option(min=0, help="Classes told per prediction; 0 tells all.")] = 0,
    decimals: Annotated[int, typer.Option(min=0, max=9, help="Decimals of scores.")] = 6,
    query_budget: Annotated[int | None, typer.Option(min=1, help="Rows answered in all.")] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Train a builder's model on your encrypted data.

    Before your key leaves this machine, the enclave's evidence is verified in front of you, step by step,
    against the measurement you name; then you are told what is granted, and asked.

    **Example**: `chiron train digits.enc digits-mlp --measurement 4f0c… --trainers 2`

    **Example**: `chiron train digits.enc digits-mlp -m 4f0c… --trust-software-root root.pem --yes`
    """
    accepted = chosen_policy(measurement, policy, trust_software_root)
    record = find_dataset(OwnerStore(), dataset)
    prediction = PredictionPolicy(top_k=top_k, decimals=decimals, query_budget=query_budget)
    with client(accepted) as connection:
        info = find_builder(connection, builder)
        capabilities = agreed_capabilities(info.capabilities, grant, sample_examples, may_ask=not yes)
        request = JobRequest(
            dataset_id=record.manifest.dataset_id,
            builder_sha256=info.sha256,
            trainers=trainers,
            exchanges=exchanges,
            seed=seed,
            trials=trials,
            validation_percent=validation,
            query_rows=query_rows,
            mode=mode,
            terms=ExchangeTerms(shards=shards),
        )
        job = connection.create_job(request)
        note(f"job {job.spec.job}: {info.manifest.name} {info.manifest.version}, {trainers} trainers")
        with _cancelled_if_not_granted(connection, job):
            verified = _attest(connection, job)
            _agree(capabilities, prediction, yes=yes)
            verified = _entrust(connection, job, verified, capabilities, prediction)
        done("granted: the dataset's key is sealed to the verified enclave")
        ended = _follow(connection, job)
        outcome = connection.outcome(ended)
        reports = connection.reports(ended)
    _conclude(ended, verified, outcome, reports, as_json=json)


@contextmanager
def _cancelled_if_not_granted(connection: Client, job: Job) -> Iterator[None]:
    """A job that gets no grant would wait for one, and hold its enclaves, until its deadline."""
    try:
        yield
    except BaseException:
        with suppress(GatewayError):
            connection.cancel(job)
        raise


def _attest(connection: Client, job: Job) -> VerifiedEvidence:
    """Wait for the parameter server and verify it on screen."""
    for now in connection.watch(job):
        raise_if_ended_badly(now)
        if now.state not in (JobState.CREATED, JobState.LAUNCHING):
            break
    note("evidence of the parameter server, over our fresh nonce:")
    try:
        verified = connection.verify_job(job)
    except EvidenceRejected as error:
        print_steps(error.steps)
        raise
    print_steps(verified.steps)
    done(f"verified: measurement {verified.quote.measurement}")
    return verified


def _entrust(
    connection: Client,
    job: Job,
    verified: VerifiedEvidence,
    capabilities: CapabilityGrants,
    prediction: PredictionPolicy,
) -> VerifiedEvidence:
    """Send the grant. Whoever is in the enclave's place after the gateway restarted is verified anew."""
    for attempt in range(GRANT_ATTEMPTS):
        try:
            if attempt:
                note("the gateway or its enclave was restarted: it is verified again")
                verified = _attest(connection, job)
            connection.send_grant(verified, capabilities=capabilities, prediction=prediction)
        except GatewayError as error:
            if attempt and error.code == codes.GRANT_ALREADY_GIVEN:
                # An earlier attempt arrived, and only its answer was lost.
                return verified
            if error.code not in _RESTARTED or attempt == GRANT_ATTEMPTS - 1:
                raise
        else:
            break
    return verified


def _agree(capabilities: CapabilityGrants, prediction: PredictionPolicy, *, yes: bool) -> None:
    note("You grant:")
    for line in grant_in_words(capabilities, prediction):
        note(f"  • {line}")
    if not yes:
        typer.confirm("Send this grant?", abort=True, err=True)


def _follow(connection: Client, job: Job) -> Job:
    last = job
    try:
        with progress_bar("training", "exchanges") as advance:
            for last in connection.watch(job):
                advance(last.exchanges_done, last.spec.exchange.exchanges)
    except KeyboardInterrupt:
        note(f"the job goes on without you: chiron job show {job.spec.job[:8]}")
        raise
    raise_if_ended_badly(last)
    return last


def _conclude(
    job: Job, verified: VerifiedEvidence, outcome: Outcome, reports: list[TrainingReport], *, as_json: bool
) -> None:
    final = outcome.metrics or (reports[-1] if reports else None)
    if as_json:
        print_json(
            {
                "job": job.spec.job,
                "status": outcome.status.value,
                "code": outcome.code,
                "detail": outcome.detail,
                "measurement": verified.quote.measurement,
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


def _in_words(report: TrainingReport | None) -> str:
    if report is None:
        return "no metrics were reported"
    named = {
        "loss": report.train_loss,
        "validation loss": report.validation_loss,
        "validation accuracy": report.validation_accuracy,
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in named.items() if value is not None)
