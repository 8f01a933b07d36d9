"""The main job for real: `chiron serve`, enclaves in bubblewrap, a builder compiled from Python."""

import asyncio
import json
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiron import Client, JobRequest, PredictionPolicy
from chiron.builder_kit.build import build_project
from chiron.client.datasets import Encrypted
from chiron.client.errors import AnswerRefused, EvidenceRejected, GatewayError
from chiron.client.gateway_session import GatewaySession
from chiron.client.granting import seal_grant
from chiron.runtime.attestation.steps import Step
from chiron.runtime.queries import seal_query
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.attestation import Role
from chiron.wire.grants import Grant
from chiron.wire.jobs import Job, JobState
from chiron.wire.reports import OutcomeStatus
from tests.end_to_end.service import ROOT, Arguments, Service, start_and_grant
from tests.support.specs import UNPACED

BUILDER = ROOT / "builders" / "digits_mlp"
EXCHANGES = 4


@pytest.fixture(scope="session")
def arguments() -> Arguments:
    """Those of all processes while `trained` is made."""
    return Arguments()


@pytest.fixture(scope="session")
def trained(service: Service, owner: Client, digits: Encrypted, arguments: Arguments) -> Job:
    """A job of two trainers that ran its schedule."""
    with service.operator() as operator:
        info = operator.upload_builder(build_project(BUILDER), (BUILDER / "manifest.json").read_bytes())
    request = JobRequest(
        dataset_id=digits.bundle.manifest.dataset_id,
        builder_sha256=info.sha256,
        trainers=2,
        exchanges=EXCHANGES,
    )
    with arguments:
        return owner.wait(start_and_grant(owner, request))


def held_out(digits: Encrypted) -> tuple[np.ndarray, np.ndarray]:
    assert digits.record.held_out is not None
    with np.load(digits.record.held_out) as kept:
        return kept["x"], kept["y"]


def test_two_trainers_make_a_model_that_predicts_held_out_digits(
    owner: Client, digits: Encrypted, trained: Job
) -> None:
    assert trained.state is JobState.SUCCEEDED
    outcome = owner.outcome(trained)
    assert outcome.status is OutcomeStatus.TRAINED, outcome
    assert [report.exchange for report in owner.reports(trained)] == list(range(EXCHANGES))
    x, y = held_out(digits)
    assert np.mean(owner.predict(trained, x).labels == y) >= 0.9


def test_nothing_of_the_data_lies_in_the_operators_storage_in_the_clear(
    service: Service, owner: Client, digits: Encrypted, trained: Job
) -> None:
    x, _ = held_out(digits)
    owner.predict(trained, x)
    rows = [row.tobytes() for row in x if np.count_nonzero(row) > 20]
    seen = b"".join(path.read_bytes() for path in service.state.rglob("*") if _is_stored(path, service))
    assert len(seen) > trained.spec.dataset.chunks * trained.spec.dataset.chunk_ciphertext_bytes
    assert not any(row in seen for row in rows)
    assert digits.record.key not in seen


def test_no_key_is_in_any_process_arguments_or_in_any_log(
    service: Service, owner: Client, digits: Encrypted, trained: Job, arguments: Arguments
) -> None:
    logs = [service.home / "gateway.log", *(service.state / "logs").rglob("*.log")]
    assert len(logs) > 3
    told = b"\0".join([*arguments.seen, *(path.read_bytes() for path in logs)])
    assert b"chiron" in told
    record = owner.store.job(trained.spec.job)
    keys = [record.owner_key, record.share, digits.record.key]
    secrets = [key.split("_", 2)[2].encode() for key in (service.operator_key, service.owner_key)]
    secrets += [form for key in keys for form in (key, key.hex().encode(), b64encode(key))]
    assert not any(secret in told for secret in secrets)
    # An enclave's own token: sixteen hexadecimal digits, then 256 bits.
    assert re.findall(rb"\b[0-9a-f]{16}\.[\w-]{43}\b", told) == []


def _is_stored(path: Path, service: Service) -> bool:
    image = service.state / "image"
    return path.is_file() and not path.is_relative_to(image)


def test_an_auditor_checks_the_owners_receipt_without_our_code(
    service: Service, owner: Client, trained: Job, tmp_path: Path
) -> None:
    """From the command line to the script, which sees neither this checkout nor her store."""
    receipt, root = tmp_path / "receipt.json", ["--trust-software-root", str(service.software_root)]
    environment = {"CHIRON_HOME": str(owner.store.root), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    written = [sys.executable, "-m", "chiron", "receipt", trained.spec.job, "--out", str(receipt)]
    subprocess.run(written, env=environment, cwd=ROOT, check=True)
    script = [sys.executable, "-I", str(ROOT / "scripts" / "verify_attestation.py"), str(receipt), *root]
    key = owner.store.job(trained.spec.job).signing_public_key.hex()
    for options, code in (
        ((), 0),
        (("--owner", key, "--job", trained.spec.job), 0),
        (("--owner", "ab" * 32), 10),
        (("--mrenclave", "ab" * 32), 10 + Step.MEASUREMENT.number),
    ):
        ran = subprocess.run([*script, *options], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ran.returncode == code, ran.stdout + ran.stderr


def test_what_the_operator_saw_has_names_and_sizes_that_the_spec_implies(owner: Client, trained: Job) -> None:
    seen = owner.observations(trained)
    reports = [item for item in seen if item.name.startswith("report-")]
    assert len({item.name for item in reports}) == EXCHANGES
    assert len({item.size for item in reports}) == 1
    assert {"model", "outcome"} <= {item.name for item in seen}


def test_another_measurement_than_the_accepted_one_is_refused_at_its_step(
    service: Service, trained: Job
) -> None:
    flipped = service.measurement[:-1] + ("0" if service.measurement[-1] != "0" else "1")
    policy = service.policy.model_copy(update={"measurements": frozenset({flipped})})
    with service.owner(policy) as stranger, pytest.raises(EvidenceRejected) as refusal:
        stranger.predict(trained, np.zeros((1, *trained.spec.dataset.input_shape), np.float32))
    assert refusal.value.steps[-1].step is Step.MEASUREMENT


def test_without_the_software_root_the_evidence_is_refused_and_the_reason_told(
    service: Service, trained: Job
) -> None:
    policy = service.policy.model_copy(update={"software_root": None})
    with service.owner(policy) as stranger, pytest.raises(EvidenceRejected, match="--trust-software-root"):
        stranger.verify_job(trained, Role.PREDICTOR)


def test_a_query_for_another_key_is_refused_and_the_predictor_lives_on(
    service: Service, owner: Client, digits: Encrypted, trained: Job
) -> None:
    x, _ = held_out(digits)
    owner.predict(trained, x[:1])
    foreign = seal_query(
        trained.spec, x[:1], PrivateKey.generate().public_bytes, owner.store.job(trained.spec.job).signing_key
    )
    with pytest.raises(GatewayError) as refusal:
        _relay(service, f"/v1/jobs/{trained.spec.job}/queries", foreign.sealed)
    assert refusal.value.code == "query-unreadable"
    assert len(owner.predict(trained, x[:3])) == 3


def test_a_grant_for_another_job_is_refused_and_the_right_one_taken_afterwards(
    service: Service, owner: Client, digits: Encrypted, trained: Job, linear: str
) -> None:
    dataset_id = digits.bundle.manifest.dataset_id
    request = JobRequest(terms=UNPACED, dataset_id=dataset_id, builder_sha256=linear, exchanges=1)
    job = owner.create_job(request)
    verified = owner.verify_job(job)
    record = owner.store.job(job.spec.job)
    wrong = Grant(
        job=job.spec.job,
        dataset_key=digits.record.key,
        dataset_digest=job.spec.dataset.digest(),
        spec_digest=trained.spec.digest(),
        attestation=service.policy,
        owner_public_key=record.private_key.public_bytes,
        owner_signing_key=record.signing_public_key,
        issued_at=0,
        expires_at=2**36,
        share=bytes(32),
    )
    with pytest.raises(GatewayError) as refusal:
        _relay(service, f"/v1/jobs/{job.spec.job}/grant", seal_grant(verified, wrong, record.signing_key))
    assert refusal.value.code == "grant-spec-mismatch"
    owner.send_grant(verified, prediction=PredictionPolicy(query_budget=5, top_k=1))
    assert owner.wait(job).state is JobState.SUCCEEDED
    x, _ = held_out(digits)
    assert owner.predict(job, x[:5]).scores.shape == (5, 1)
    with pytest.raises(AnswerRefused) as exhausted:
        owner.predict(job, x[:1])
    assert exhausted.value.code == "budget-exhausted"


def _relay(service: Service, path: str, sealed: bytes) -> None:
    async def relay() -> None:
        async with GatewaySession(service.url, service.owner_key) as gateway:
            await gateway.relay(path, sealed)

    asyncio.run(relay())


@dataclass(frozen=True)
class Person:
    """Somebody who types commands, with a home of their own."""

    home: Path
    environment: dict[str, str]

    def types(self, *arguments: str, code: int = 0) -> str:
        """What a command prints to standard output; to standard error, where it fails as it should."""
        ran = subprocess.run(
            [sys.executable, "-m", "chiron", *arguments],
            env=self.environment | {"CHIRON_HOME": str(self.home), "HOME": "/", "PATH": "/usr/bin:/bin"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        return ran.stderr if code else ran.stdout

    def is_told(self, *arguments: str) -> Any:
        """The last line of a command's JSON output."""
        return json.loads(self.types(*arguments, "--json").splitlines()[-1])


def test_the_same_through_the_commands_that_people_type(
    service: Service, tmp_path: Path, linear: str, digits: Encrypted
) -> None:
    at, key = {"CHIRON_URL": service.url}, "CHIRON_API_KEY"
    operator = Person(tmp_path / "operator", at | {key: service.operator_key})
    owner = Person(tmp_path / "owner", at | {key: service.owner_key})
    guest = Person(tmp_path / "guest", {})
    assert linear in operator.types("builder", "list")
    bundle = str(tmp_path / "digits.enc")
    owner.types("data", "encrypt", "sklearn:digits", "--held-out", "20", "--out", bundle)
    owner.types("data", "upload", bundle)
    trust = ["-m", service.measurement, "--trust-software-root", str(service.software_root)]
    job = owner.is_told("train", bundle, linear, *trust, "--exchanges", "2", "--unpaced", "--yes")
    assert job["status"] == "trained"
    assert job["evidence_verified"] is True
    assert owner.is_told("predict", job["job"], "--held-out")["accuracy"] > 0.8
    _lends_and_takes_back(owner, guest, job["job"], tmp_path, digits)
    assert owner.is_told("job", "forget", job["job"], "--yes")["deleted_at"]
    history = json.loads(owner.types("job", "history", job["job"], "--json"))
    assert [entry["did"] for entry in history["entries"]][-2:] == ["forgot", "deleted"]


def _lends_and_takes_back(owner: Person, guest: Person, job: str, directory: Path, digits: Encrypted) -> None:
    """The owner shares the model with a guest, who asks, and is refused after the pass was revoked."""
    given, rows = str(directory / "colleague.pass"), str(directory / "rows.npy")
    np.save(rows, held_out(digits)[0][:5])
    shared = owner.is_told("share", job, "--rows", "8", "--until", "7", "--top-k", "1", "--out", given)
    asks = ["predict", rows, "--pass", given]
    assert len(guest.types(*asks).splitlines()) == 6
    assert "[pass-exhausted]" in guest.types(*asks, code=1)
    assert owner.is_told("share", "revoke", job, shared["pass"])["predictor_told"] is True
    assert "[unauthenticated]" in guest.types(*asks, code=1)
    (listed,) = json.loads(owner.types("share", "list", job, "--json"))
    assert (listed["state"], listed["handed_out"], listed["answered"]) == ("revoked", 5, 5)
    attested = json.loads(owner.types("job", "history", job, "--json"))["attested"]
    passes = [one["settlement"]["settlement"]["passes"] for one in attested if one["settlement"]]
    assert sum(one["rows"] for passes_of in passes for one in passes_of) == 5
