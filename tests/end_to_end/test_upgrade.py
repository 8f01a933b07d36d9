"""A service moves to newer enclave code that a log records; a model moves with it as its owner orders."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from chiron import AsyncClient, Client, JobRequest, OwnerStore, PredictionPolicy, policy_of
from chiron.client.datasets import Encrypted
from chiron.client.errors import AnswerRefused, EvidenceRejected, GatewayError, GatewayUnreachable
from chiron.client.ledger import Ledgers
from chiron.client.opening import Opener
from chiron.client.upgrading import sign_order
from chiron.client.verifying import Verifier
from chiron.enclave_image.measurement import measure
from chiron.enclave_image.recording import Recorder
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.runtime.attestation.platform import attest
from chiron.runtime.attestation.steps import Step
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.attestation import AttestationPolicy, Claims, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import UpgradeOrder
from chiron.wire.public_api import UpgradeDemand
from chiron.wire.transparency import TransparencyPolicy
from tests.end_to_end.service import ROOT, Service, encrypted_digits, publish_linear, serving
from tests.support.specs import UNPACED
from tests.support.tee import DirectPlatform, open_tee, policy_for

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BUDGET = 10


@dataclass
class Moved:
    """The service after its operator's update, and a job that was trained before it."""

    service: Service
    old: str
    new: str
    job: str
    rows: NDArray[np.uint8]

    @property
    def store(self) -> OwnerStore:
        return OwnerStore(self.service.home / "owner")

    def policy(self, *measurements: str) -> AttestationPolicy:
        """Accepts these if the log has them; it holds no proof itself."""
        return demanding_the_log(self.service, *measurements)

    def client(self, *measurements: str) -> AsyncClient:
        return AsyncClient(
            self.service.url, self.service.owner_key, policy=self.policy(*measurements), store=self.store
        )


def demanding_the_log(service: Service, *measurements: str) -> AttestationPolicy:
    accepted = policy_of(measurements, software_root=service.software_root)
    log = TransparencyPolicy(log_public_key=KEY.public_key().public_bytes_raw())
    return accepted.model_copy(update={"transparency": log})


def recorded(image: Path, directory: Path, log: Path, *, older: bool) -> str:
    """An image that is in the log; the older one has a file more. Its measurement."""
    shutil.copytree(image, directory, symlinks=True, copy_function=os.link)
    if older:
        (directory / "root/etc/motd").write_text("the older one\n")
    measurement = measure(directory)
    Recorder(log, KEY, "a" * 40, "0" * 64).record(measurement, directory, datetime.now(UTC))
    return measurement


def trained(service: Service, measurement: str, directory: Path) -> str:
    """A job of one trainer; its model answers `BUDGET` rows."""
    with service.owner(demanding_the_log(service, measurement)) as owner, service.operator() as operator:
        digits = encrypted_digits(owner, directory / "digits.enc")
        builder = publish_linear(operator, digits)
        dataset_id = digits.bundle.manifest.dataset_id
        job = owner.create_job(
            JobRequest(terms=UNPACED, dataset_id=dataset_id, builder_sha256=builder, trainers=1, exchanges=1)
        )
        owner.send_grant(owner.verify_job(job), prediction=PredictionPolicy(query_budget=BUDGET))
        owner.wait(job)
        return job.spec.job


@pytest.fixture(scope="module")
def moved(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    work = tmp_path_factory.mktemp("upgrade")
    TransparencyLog.create(work / "log", KEY.public_key().public_bytes_raw())
    old = recorded(image, work / "old", work / "log", older=True)
    new = recorded(image, work / "new", work / "log", older=False)
    rows = np.random.default_rng(5).integers(0, 16, (BUDGET, 1, 8, 8), np.uint8)
    with TemporaryDirectory(prefix="chiron-test-") as directory:
        places = Path(directory, "state"), Path(directory, "home")
        with serving(*places, "--image", str(work / "old")) as before:
            job = trained(before, old, work)
        options = ["--image", str(work / "new"), "--previous", str(work / "old"), "--direct-port", "0"]
        with serving(*places, *options) as after:
            spec = OwnerStore(after.home / "owner").job(job).spec
            shaped = rows.reshape(BUDGET, *spec.dataset.input_shape).astype(spec.dataset.input_dtype.value)
            yield Moved(replace(after, owner_key=before.owner_key), old, new, job, shaped)


def demand(moved: Moved, evidence: Evidence, giver: Evidence, nonce: bytes, new: str) -> UpgradeDemand:
    order = UpgradeOrder(
        job=moved.job,
        old=moved.policy(moved.old),
        new=moved.policy(new).model_copy(update={"transparency": None}),
        nonce=nonce,
        taker_key_sha256=sha256_hex(evidence.claims.hpke_public_key or b""),
        giver_key_sha256=sha256_hex(giver.claims.hpke_public_key or b""),
    )
    old = order.model_copy(update={"old": order.old.model_copy(update={"transparency": None})})
    signed = sign_order(old, moved.store.job(moved.job).signing_key)
    return UpgradeDemand(order=signed, taker=evidence)


def to_myself(moved: Moved, giver: Evidence, nonce: bytes) -> UpgradeDemand:
    """What an owner signs for a TEE of her own, whose evidence her own policy accepts."""
    with TemporaryDirectory() as directory:
        mine = open_tee(Path(directory, "tee"))
    key = PrivateKey.generate().public_bytes
    claims = Claims(role=Role.PREDICTOR, job=moved.job, hpke_public_key=key, nonce=nonce)
    ordered = demand(moved, giver, giver, nonce, new=moved.new).order.order
    order = ordered.model_copy(update={"new": policy_for(mine), "taker_key_sha256": sha256_hex(key)})
    signed = sign_order(order, moved.store.job(moved.job).signing_key)
    return UpgradeDemand(order=signed, taker=attest(DirectPlatform(mine), claims))


async def test_older_code_is_kept_for_the_model_that_is_sealed_to_it(moved: Moved) -> None:
    async with moved.client(moved.old) as owner:
        assert len(await owner.predict(moved.job, moved.rows[:3])) == 3


async def test_host_that_gives_the_model_to_others_than_the_order_names_is_refused_by_enclaves(
    moved: Moved,
) -> None:
    async with moved.client(moved.new) as owner:
        gateway = owner.gateway
        nonce = secrets.token_bytes(32)
        evidence, giver = await started(moved, owner, nonce)
        # The host wants it given away by an enclave that its owner has not opened.
        with pytest.raises(GatewayError) as refused:
            await gateway.order_upgrade(moved.job, demand(moved, evidence, giver, nonce, new=moved.new))
        assert refused.value.code == "predictor-locked"
        # Ordered for one measurement, and the host started another: the older enclave gives nothing.
        evidence, giver = await started(moved, owner, nonce, opened=True)
        # An owner who would have it sealed to a program of her own, to read what the builder made.
        with pytest.raises(GatewayError) as refused:
            await gateway.order_upgrade(moved.job, to_myself(moved, giver, nonce))
        assert refused.value.code == "upgrade-for-another-taker"
        with pytest.raises(GatewayError) as refused:
            await gateway.order_upgrade(moved.job, demand(moved, evidence, giver, nonce, new="1" * 64))
        assert refused.value.code == "evidence-measurement"
        # A good order, carried to a second start of the newer code, by a second start of the older.
        again, _ = await started(moved, owner, nonce, opened=True)
        with pytest.raises(GatewayError) as refused:
            await gateway.order_upgrade(moved.job, demand(moved, again, giver, nonce, new=moved.new))
        assert refused.value.code == "upgrade-for-another-giver"


async def started(
    moved: Moved, owner: AsyncClient, nonce: bytes, *, opened: bool = False
) -> tuple[Evidence, Evidence]:
    """Evidence over `nonce` of an enclave that takes the model, and of one that gives it."""
    gateway, record = owner.gateway, moved.store.job(moved.job)
    await gateway.begin_upgrade(moved.job, moved.old)
    if opened:
        async with moved.client(moved.old) as older:
            verifier = Verifier(older.policy, gateway, moved.store, now)
            await Opener(gateway, verifier, moved.store, now).opened(gateway, record, giver=True)
    taker = await gateway.evidence(moved.job, Role.PREDICTOR, nonce)
    return taker, await gateway.evidence(moved.job, Role.PREDICTOR, nonce, giver=True)


def now() -> datetime:
    return datetime.now(UTC)


def test_model_moves_and_goes_on_answering_within_its_budget(moved: Moved) -> None:
    """By the commands that people type; three rows were answered before."""
    told = chiron(moved, "upgrade", moved.job, "--measurement", moved.new, "--yes", "--json")
    assert json.loads(told) == {"job": moved.job, "measurement": moved.new}
    rows = moved.service.home / "rows.npz"
    np.savez(rows, x=moved.rows[:2])
    answered = json.loads(chiron(moved, "predict", moved.job, str(rows), "--direct", "--json"))
    assert answered["rows"] == 2
    audited(moved, asyncio.run(_after_the_move(moved)))


async def _after_the_move(moved: Moved) -> str:
    """Returns the predictor's own address."""
    async with moved.client(moved.new) as owner:
        with pytest.raises(AnswerRefused) as exhausted:
            await owner.predict(moved.job, moved.rows[:6])
        assert exhausted.value.code == "budget-exhausted"
        assert len(await owner.predict(moved.job, moved.rows[:5], direct=True)) == 5
        address = await owner.predictor_address(moved.job)
    # Every predictor before this one ended in order, and has settled.
    ledger = Ledgers(moved.store).read(moved.job)
    assert (len(ledger.loans), ledger.spent) == (1, BUDGET)
    async with moved.client(moved.old) as stranger:
        with pytest.raises(GatewayUnreachable):
            async with stranger.direct_predictor(moved.job, address):
                pytest.fail("it spoke to other code than it accepts")
    return address


def audited(moved: Moved, address: str) -> None:
    """An auditor verifies the door by its TLS certificate, apart from the client."""
    root = str(moved.service.software_root)
    script = [sys.executable, str(ROOT / "scripts/verify_attestation.py"), "--tls", address, "--json"]
    options = ["--job", moved.job, "--role", "predictor", "--trust-software-root", root]
    for accepted, code in ((moved.new, 0), (moved.old, 10 + Step.MEASUREMENT.number)):
        ran = subprocess.run([*script, *options, "--mrenclave", accepted], capture_output=True, check=False)
        assert ran.returncode == code, ran.stderr


def chiron(moved: Moved, *arguments: str) -> str:
    environment = {
        "CHIRON_URL": moved.service.url,
        "CHIRON_API_KEY": moved.service.owner_key,
        "CHIRON_HOME": str(moved.store.root),
        "HOME": str(moved.service.home),
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-m", "chiron", *arguments]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_image_that_was_built_without_a_log_is_refused_where_the_policy_demands_one(
    service: Service, owner: Client, digits: Encrypted, linear: str
) -> None:
    dataset_id = digits.bundle.manifest.dataset_id
    job = owner.create_job(JobRequest(terms=UNPACED, dataset_id=dataset_id, builder_sha256=linear))
    with (
        service.owner(demanding_the_log(service, service.measurement)) as careful,
        pytest.raises(EvidenceRejected) as refused,
    ):
        careful.verify_job(job)
    owner.cancel(job)
    assert refused.value.steps[-1].step is Step.TRANSPARENCY
