"""The main job, for real, on one machine: `./scripts/demo` sets up and runs this.

An operator's gateway with real enclave processes, a builder compiled from Python to WebAssembly, and a data
owner who encrypts, verifies, grants, trains and predicts. Nothing in it is simulated but the hardware: the
TEE under the enclaves is the development one (docs/threat-model.md).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from chiron import Client, Job, JobRequest, OwnerStore, policy_of
from chiron.builder_kit.build import build_project
from chiron.cli.output import console, done, note, print_json, print_steps, progress_bar, warn
from chiron.client.datasets import EncryptOptions
from chiron.client.granting import grant_in_words, new_terms
from chiron.client.jobs import raise_if_ended_badly
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.wire.contract import CapabilityGrants
from chiron.wire.errors import ChironError
from chiron.wire.jobs import JobState
from chiron.wire.public_api import BuilderInfo
from chiron.wire.reports import OutcomeStatus

ROOT = Path(__file__).resolve().parent.parent
BUILDER = ROOT / "builders" / "digits_mlp"
TRAINERS = 2
EXCHANGES = 12
HELD_OUT_PERCENT = 20.0
WANTED_ACCURACY = 0.95
STOP_S = 20


class DemoFailed(Exception):
    """The demo did not come to its end; the message says where."""

    code = "demo-failed"


@dataclass
class Stopwatch:
    """Seconds of each stage, in order."""

    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Announce a stage, and measure it."""
        console().rule(f"[bold]{title}[/]", align="left")
        begun = time.monotonic()
        yield
        self.stages[name] = round(time.monotonic() - begun, 2)


def main() -> int:
    """Run the demo; 0 if it trained a model that predicts well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave it there")
    options = parser.parse_args()
    try:
        with _workplace(options.keep) as directory:
            result = run(directory)
    except KeyboardInterrupt:
        note("interrupted: everything was stopped")
        return 130
    except (DemoFailed, ChironError) as error:
        console().print(f"[bold red]error[/] [{error.code}] {error}", markup=True)
        return 1
    if options.json:
        print_json(result)
    return 0


@contextmanager
def _workplace(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        # A short path: a Unix socket's has at most 107 bytes.
        with tempfile.TemporaryDirectory(prefix="chiron-") as directory:
            yield Path(directory)
    else:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()


def run(directory: Path) -> dict[str, Any]:
    """All stages, in `directory`; what `--json` prints."""
    watch = Stopwatch()
    begun = time.monotonic()
    with _gateway(directory, watch) as told:
        policy = policy_of([told["measurement"]], software_root=Path(told["software_root"]))
        operator = Client(told["url"], told["operator_key"], store=OwnerStore(directory / "operator"))
        owner = Client(told["url"], told["owner_key"], policy=policy, store=OwnerStore(directory / "owner"))
        with operator, owner:
            builder = _publish(operator, watch)
            dataset_id = _encrypt_and_upload(owner, directory, watch)
            job, verified = _grant(owner, builder, dataset_id, watch)
            _follow(owner, job, watch)
            accuracy = _predict(owner, job, watch)
            observed = _observed(owner, job)
    watch.stages["total"] = round(time.monotonic() - begun, 2)
    _conclude(accuracy, verified, observed, watch)
    return {
        "accuracy": accuracy,
        "trainers": TRAINERS,
        "exchanges": EXCHANGES,
        "measurement": verified.quote.measurement,
        "evidence_verified": all(result.passed for result in verified.steps),
        "operator_saw": observed,
        "stages_s": watch.stages,
    }


@contextmanager
def _gateway(directory: Path, watch: Stopwatch) -> Iterator[dict[str, str]]:
    """A gateway process, and what it says of itself once it answers; stopped at the end of the block."""
    log = directory / "gateway.log"
    command = [sys.executable, "-m", "chiron", "serve", "--state-dir", str(directory / "state")]
    with log.open("w") as stderr:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the gateway in order.
        process = subprocess.Popen(
            [*command, "--port", "0", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        with watch.stage("compile", "Operator: compile the builder to WebAssembly, while the gateway starts"):
            done(f"{len(build_project(BUILDER)):,} bytes from {BUILDER.name}/builder.py")
        with watch.stage("gateway", "Operator: start the gateway"):
            told = _first_line(process, log)
        yield told
    finally:
        _stop(process)


def _first_line(process: "subprocess.Popen[str]", log: Path) -> dict[str, str]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise DemoFailed(f"the gateway did not start:\n{log.read_text()[-2000:]}")
    told: dict[str, str] = json.loads(line)
    done(f"gateway at {told['url']}, enclave image {told['measurement']}")
    warn("the enclaves run on a SOFTWARE TEE: evidence of the real form, no protection from this machine")
    return told


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _publish(operator: Client, watch: Stopwatch) -> BuilderInfo:
    with watch.stage("publish", "Operator: publish the builder; the gateway inspects it"):
        # Compiled before: what was built of these sources is kept.
        component = build_project(BUILDER)
        info = operator.upload_builder(component, (BUILDER / "manifest.json").read_bytes())
        done(f"{info.full_name}: {info.size:,} bytes, {info.sha256}")
        note(f"  it asks data owners for: {', '.join(info.capabilities) or 'nothing'}")
    return info


def _encrypt_and_upload(owner: Client, directory: Path, watch: Stopwatch) -> str:
    with watch.stage("encrypt", "Data owner: encrypt the handwritten digits on this side"):
        options = EncryptOptions(held_out_percent=HELD_OUT_PERCENT)
        encrypted = owner.encrypt("sklearn:digits", directory / "digits.enc", options)
        manifest = encrypted.bundle.manifest
        done(f"{manifest.examples} images in {manifest.chunks} chunks; the key stays here")
    with watch.stage("upload", "Data owner: upload the ciphertext"):
        with progress_bar("upload", "chunks") as advance:
            dataset_id = owner.upload_dataset(encrypted.bundle, advance)
        done(f"dataset {dataset_id}")
    return dataset_id


def _grant(
    owner: Client, builder: BuilderInfo, dataset_id: str, watch: Stopwatch
) -> tuple[Job, VerifiedEvidence]:
    with watch.stage("launch", f"Data owner: create a job with {TRAINERS} trainers"):
        request = JobRequest(
            dataset_id=dataset_id, builder_sha256=builder.sha256, trainers=TRAINERS, exchanges=EXCHANGES
        )
        job = owner.create_job(request)
        for now in owner.watch(job):
            raise_if_ended_badly(now)
            if now.state not in (JobState.CREATED, JobState.LAUNCHING):
                break
        done(f"job {job.spec.job}: its parameter server waits for a grant")
    with watch.stage("attest", "Data owner: verify the parameter server's evidence, then grant"):
        verified = owner.verify_job(job)
        print_steps(verified.steps)
        capabilities = CapabilityGrants(granted=frozenset(builder.capabilities))
        terms = new_terms(datetime.now(UTC), capabilities=capabilities)
        for line in grant_in_words(terms, builder):
            note(f"  • {line}")
        owner.send_grant(verified, terms=terms)
        done("granted: the dataset's key is sealed to the verified enclave")
    return job, verified


def _follow(owner: Client, job: Job, watch: Stopwatch) -> None:
    with watch.stage("train", "Enclaves: run the builder, train, seal the model"):
        with progress_bar("training", "exchanges") as advance:
            for now in owner.watch(job):
                advance(now.exchanges_done, EXCHANGES)
        raise_if_ended_badly(owner.job(job))
        outcome = owner.outcome(job)
        if outcome.status is not OutcomeStatus.TRAINED or outcome.metrics is None:
            raise DemoFailed(f"{outcome.status}: [{outcome.code}] {outcome.detail}")
        for report in owner.reports(job):
            loss, accuracy = _number(report.train_loss), _number(report.validation_accuracy)
            note(f"  exchange {report.exchange + 1:2}: train loss {loss}, validation accuracy {accuracy}")
        done("trained and sealed; only the owner can read this curve")


def _number(value: float | None) -> str:
    """A metric, or a dash where the exchange had none: the last one only measures."""
    return "–" if value is None else f"{value:.4f}"


def _predict(owner: Client, job: Job, watch: Stopwatch) -> float:
    with watch.stage("predict", "Data owner: sealed queries to a predictor enclave"):
        record = owner.store.dataset(job.spec.dataset.dataset_id)
        if record.held_out is None:
            raise DemoFailed("no rows were held out")
        with np.load(record.held_out) as kept, progress_bar("predict", "rows") as advance:
            predictions = owner.predict(job, kept["x"], advance)
            accuracy = float(np.mean(predictions.labels == kept["y"]))
        done(f"{len(predictions)} rows answered, accuracy {accuracy:.4f}")
    return accuracy


def _observed(owner: Client, job: Job) -> list[dict[str, Any]]:
    """What the operator's side stored and relayed, as it says itself; repeated things are summed."""
    totals: dict[tuple[str, str], list[int]] = {}
    for seen in owner.observations(job):
        name = re.sub(r"(^|-)\d+$", r"\1*", seen.name)
        totals.setdefault((seen.kind, name), []).append(seen.size)
    return [
        {"kind": kind, "name": name, "count": len(sizes), "bytes": sum(sizes)}
        for (kind, name), sizes in totals.items()
    ]


def _conclude(
    accuracy: float, verified: VerifiedEvidence, observed: list[dict[str, Any]], watch: Stopwatch
) -> None:
    console().rule("[bold]What happened[/]", align="left")
    note("All that the operator's side stored and relayed: its own builder, and ciphertext:")
    for seen in observed:
        note(f"  {seen['kind']:>10}  {seen['name']:<24} {seen['count']:>4} ×  {seen['bytes']:>12,} bytes")
    note("Seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in watch.stages.items()))
    done(f"measurement {verified.quote.measurement}, evidence verified in {len(verified.steps)} steps")
    done(f"held-out accuracy {accuracy:.4f}")
    if accuracy < WANTED_ACCURACY:
        raise DemoFailed(f"an accuracy below {WANTED_ACCURACY} means that something is wrong")


if __name__ == "__main__":
    sys.exit(main())
