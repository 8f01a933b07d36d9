"""The client against a real gateway: it works, and nothing secret goes to anybody who did not prove it."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, NoReturn

import numpy as np
import pytest

from chiron import Client
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.datasets import Bundle
from chiron.client.errors import (
    AnswerRefused,
    BundleInvalid,
    EvidenceRejected,
    GatewayError,
    GatewayUnreachable,
    JobEnded,
    NotDirect,
    PolicyMissing,
    RecordMissing,
    ReportUnreadable,
    SpecMismatch,
    UpgradeImpossible,
)
from chiron.client.granting import seal_grant
from chiron.client.jobs import check_spec
from chiron.runtime.attestation.steps import Step
from chiron.runtime.errors import AnswerUnreadable, RowsInvalid
from chiron.wire.attestation import AttestationPolicy, Claims, Evidence, Role
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import Job, JobState
from chiron.wire.public_api import ImageInfo
from chiron.wire.reports import Outcome, OutcomeStatus
from tests.support.owners_world import World
from tests.support.tee import MEASUREMENT


async def train(
    world: World, prediction: PredictionPolicy | None = None
) -> tuple[Job, np.ndarray, np.ndarray]:
    """The whole way to a trained job; returns it and the held-out rows."""
    encrypted = world.encrypt()
    async with world.client() as client:
        dataset_id = await client.upload_dataset(encrypted.bundle)
        job = await client.create_job(world.request(dataset_id))
        await client.send_grant(await client.verify_job(job), prediction=prediction)
        ended = await client.wait(job)
    assert encrypted.record.held_out is not None
    with np.load(encrypted.record.held_out) as kept:
        return ended, kept["x"], kept["y"]


async def test_the_whole_way_from_data_to_predictions(world: World) -> None:
    job, x, y = await train(world)
    assert job.state is JobState.SUCCEEDED
    async with world.client() as client:
        assert (await client.outcome(job)).status is OutcomeStatus.TRAINED
        reports = await client.reports(job)
        assert [report.exchange for report in reports] == [0, 1, 2]
        predictions = await client.predict(job, x)
        observations = await client.observations(job)
    assert (predictions.labels == y).mean() > 0.85
    assert predictions.scores.shape == (len(x), 10)
    queries = {seen.size for seen in observations if seen.kind == "query"}
    answers = {seen.size for seen in observations if seen.kind == "answer"}
    assert (len(queries), len(answers)) == (1, 1)


async def test_what_the_grant_allows_is_what_predictions_tell(world: World) -> None:
    policy = PredictionPolicy(top_k=2, decimals=1, query_budget=150)
    job, x, _ = await train(world, policy)
    async with world.client() as client:
        told = await client.predict(job, x[:100])
        assert told.scores.shape == (100, 2)
        np.testing.assert_allclose(told.scores, told.scores.round(1), atol=1e-6)
        with pytest.raises(AnswerRefused) as caught:
            await client.predict(job, x[100:200])
    assert caught.value.code == "budget-exhausted"


def of_another_job(claims: Claims) -> Claims:
    return claims.model_copy(update={"job": "f" * 32})


def of_another_role(claims: Claims) -> Claims:
    return Claims(
        role=Role.PREDICTOR, job=claims.job, hpke_public_key=claims.hpke_public_key, nonce=claims.nonce
    )


def stale(claims: Claims) -> Claims:
    return claims.model_copy(update={"nonce": bytes(32)})


def with_own_key(evidence: Evidence) -> Evidence:
    """The man in the middle: genuine quote, another key."""
    from chiron.runtime.sealing.hpke import PrivateKey

    own = PrivateKey.generate().public_bytes
    return evidence.model_copy(update={"claims": evidence.claims.model_copy(update={"hpke_public_key": own})})


def with_flipped_quote(evidence: Evidence) -> Evidence:
    quote = bytearray(evidence.quote)
    quote[200] ^= 1
    return evidence.model_copy(update={"quote": bytes(quote)})


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ({"claims": of_another_job}, Step.ROLE_AND_JOB),
        ({"claims": of_another_role}, Step.ROLE_AND_JOB),
        ({"claims": stale}, Step.NONCE),
        ({"evidence": with_own_key}, Step.CLAIMS),
        ({"evidence": with_flipped_quote}, Step.SIGNATURE),
        ({"measurement": bytes(32)}, Step.MEASUREMENT),
    ],
)
async def test_no_grant_goes_to_an_enclave_that_does_not_prove_itself(
    world: World, fault: dict[str, Any], step: Step
) -> None:
    world.enclaves.faults = dataclasses.replace(world.faults, **fault)
    encrypted = world.encrypt()
    async with world.client() as client:
        job = await client.create_job(world.request(await client.upload_dataset(encrypted.bundle)))
        with pytest.raises(EvidenceRejected) as caught:
            await client.verify_job(job)
        await client.cancel(job)
    assert caught.value.code == f"evidence-{step.value}"
    assert caught.value.steps[-1].step is step
    assert not any(result.passed for result in caught.value.steps[-1:])
    assert world.enclaves.grants == {}


async def test_software_evidence_is_refused_unless_its_very_root_is_trusted(world: World) -> None:
    encrypted = world.encrypt()
    another = SoftwareTee.open(world.directory / "another-tee", datetime.now(UTC)).root_der
    async with world.client() as client:
        job = await client.create_job(world.request(await client.upload_dataset(encrypted.bundle)))
    for root in (None, another):
        async with world.client(world.policy.model_copy(update={"software_root": root})) as client:
            with pytest.raises(EvidenceRejected) as caught:
                await client.verify_job(job)
        assert caught.value.steps[-1].step.number <= Step.SIGNATURE.number
        if root is None:
            assert "--trust-software-root" in str(caught.value)


async def test_without_a_policy_nothing_is_verified_or_granted(world: World) -> None:
    encrypted = world.encrypt()
    async with world.client() as client:
        job = await client.create_job(world.request(await client.upload_dataset(encrypted.bundle)))
        verified = await client.verify_job(job)
        client.policy = None
        with pytest.raises(PolicyMissing, match="chiron image measure"):
            await client.verify_job(job)
        with pytest.raises(PolicyMissing):
            await client.send_grant(verified)
    assert world.enclaves.grants == {}


async def test_a_grant_is_never_sealed_to_another_job_or_role(world: World) -> None:
    job, _, _ = await train(world)
    grant = world.enclaves.grants[job.spec.job]
    async with world.client() as client:
        second = await client.create_job(world.request(job.spec.dataset.dataset_id))
        of_second = await client.verify_job(second)
        predictor = (await client.predictor(job)).verified
    for verified in (of_second, predictor):
        with pytest.raises(SpecMismatch):
            seal_grant(verified, grant, client.store.job(job.spec.job).signing_key)


async def test_predictor_without_an_address_and_model_without_older_code_are_told_by_code(
    world: World,
) -> None:
    job, rows, _ = await train(world)
    async with world.client() as client:
        with pytest.raises(NotDirect):
            await client.predict(job, rows, direct=True)
        with pytest.raises(UpgradeImpossible, match="no image"):
            await client.upgrade(job)


async def test_upgrade_to_code_that_the_owner_does_not_accept_is_ordered_by_nothing(world: World) -> None:
    job, _, _ = await train(world)
    images = (ImageInfo(measurement="1" * 64), ImageInfo(measurement=MEASUREMENT.hex()))
    world.launcher.images = images
    async with world.client(
        world.policy.model_copy(update={"measurements": frozenset({"1" * 64})})
    ) as client:
        with pytest.raises(EvidenceRejected) as refused:
            await client.upgrade(job)
        assert refused.value.steps[-1].step is Step.MEASUREMENT
        assert not any(seen.kind.startswith("upgrade") for seen in await client.observations(job))
        assert (await client.gateway.predictor(job.spec.job)).state == "stopped"
        assert client.store.job(job.spec.job).policy == world.policy


async def test_a_second_grant_is_refused_by_the_enclave(world: World) -> None:
    job, _, _ = await train(world)
    async with world.client() as client:
        with pytest.raises(GatewayError) as caught:
            await client.verify_job(job)
    assert caught.value.code == "job-ended"


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.model_copy(update={"builder_sha256": "c" * 64}),
        lambda spec: spec.model_copy(update={"seed": 7}),
        lambda spec: spec.model_copy(update={"query_rows": 1}),
        lambda spec: spec.model_copy(update={"exchange": spec.exchange.model_copy(update={"trainers": 1})}),
        lambda spec: spec.model_copy(update={"dataset": spec.dataset.model_copy(update={"classes": 11})}),
    ],
)
async def test_a_job_other_than_the_one_asked_for_is_refused(
    world: World, change: Callable[[Any], Any]
) -> None:
    encrypted = world.encrypt()
    request = world.request(encrypted.record.manifest.dataset_id)
    async with world.client() as client:
        await client.upload_dataset(encrypted.bundle)
        job = await client.create_job(request)
        await client.cancel(job)
    check_spec(job.spec, request, encrypted.record.manifest)
    with pytest.raises(SpecMismatch):
        check_spec(change(job.spec), request, encrypted.record.manifest)


async def test_an_upload_resumes_with_what_is_missing(world: World) -> None:
    encrypted = world.encrypt()
    manifest, path = encrypted.bundle.manifest, f"/v1/datasets/{encrypted.bundle.manifest.dataset_id}"
    sent: list[tuple[int, int]] = []
    async with world.client() as client:
        await client.gateway.create_dataset(manifest)
        for number in (0, 5):
            await client.gateway.put(f"{path}/chunks/{number}", encrypted.bundle.chunk(number))
        await client.upload_dataset(encrypted.bundle, lambda done, total: sent.append((done, total)))
        assert (await client.gateway.dataset(manifest.dataset_id)).complete
        await client.upload_dataset(encrypted.bundle)
    assert sent == [(done, 16) for done in range(2, 17)]


async def test_an_altered_bundle_is_noticed_before_it_is_sent(world: World) -> None:
    encrypted = world.encrypt()
    chunk = encrypted.bundle.root / "chunk-000003"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    async with world.client() as client:
        with pytest.raises(BundleInvalid, match="chunk-000003"):
            await client.upload_dataset(encrypted.bundle.root)
    (encrypted.bundle.root / "manifest.json").unlink()
    with pytest.raises(BundleInvalid):
        Bundle.open(encrypted.bundle.root)


@pytest.mark.parametrize(
    "alter", [lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]), lambda sealed: sealed[1:]]
)
async def test_an_altered_answer_is_refused(world: World, alter: Callable[[bytes], bytes]) -> None:
    job, x, _ = await train(world)
    world.faults.answer = alter
    async with world.client() as client:
        with pytest.raises(AnswerUnreadable):
            await client.predict(job, x)


async def test_an_answer_to_another_query_is_refused(world: World) -> None:
    job, x, _ = await train(world)
    seen: list[bytes] = []

    def replay(sealed: bytes) -> bytes:
        seen.append(sealed)
        return seen[0]

    world.faults.answer = replay
    async with world.client() as client:
        session = await client.predictor(job)
        await session.predict(x[:10])
        with pytest.raises(AnswerUnreadable):
            await session.predict(x[:10])


async def test_the_predictor_proves_itself_afresh_before_each_use(world: World) -> None:
    job, x, _ = await train(world)
    world.faults.claims = stale
    async with world.client() as client:
        with pytest.raises(EvidenceRejected) as caught:
            await client.predict(job, x)
    assert caught.value.code == "evidence-nonce"
    assert world.enclaves.rows_answered == 0


async def test_rows_of_another_shape_are_not_sent(world: World) -> None:
    job, x, _ = await train(world)
    async with world.client() as client:
        for rows in (x[:0], x.reshape(-1, 64), x.astype(np.float64)):
            with pytest.raises(RowsInvalid):
                await client.predict(job, rows)
    assert world.enclaves.rows_answered == 0


async def test_reports_that_are_not_ours_are_refused(world: World) -> None:
    world.faults.report = lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1])
    job, _, _ = await train(world)
    async with world.client() as client:
        with pytest.raises(ReportUnreadable):
            await client.reports(job)


async def test_only_the_owner_learns_that_a_job_came_to_nothing(world: World) -> None:
    world.faults.outcome = Outcome(
        status=OutcomeStatus.BUILDER_REFUSED, code="builder-out-of-fuel", detail="…"
    )
    job, _, _ = await train(world)
    assert job.state is JobState.SUCCEEDED
    async with world.client() as client:
        assert (await client.outcome(job)).code == "builder-out-of-fuel"


async def test_a_job_that_ends_without_a_model_says_so(world: World) -> None:
    encrypted = world.encrypt()
    async with world.client() as client:
        job = await client.create_job(world.request(await client.upload_dataset(encrypted.bundle)))
        await client.cancel(job)
        with pytest.raises(JobEnded) as caught:
            await client.wait(job)
    assert caught.value.code == "job-cancelled"


async def test_the_gateways_problems_keep_their_codes(world: World) -> None:
    encrypted = world.encrypt()
    async with world.client() as client:
        with pytest.raises(GatewayError) as caught:
            await client.job("0" * 32)
        assert (caught.value.code, caught.value.status) == ("job-unknown", 404)
        with pytest.raises(GatewayError) as caught:
            await client.create_job(world.request(encrypted.record.manifest.dataset_id))
        assert caught.value.code == "dataset-unknown"
        with pytest.raises(RecordMissing):
            await client.create_job(world.request("0" * 32))
    async with world.client(key="chiron_wrong") as client:
        with pytest.raises(GatewayError) as caught:
            await client.jobs()
        assert caught.value.code == "unauthenticated"


async def test_a_gateway_that_is_not_there_is_said_so(world: World) -> None:
    async with world.client() as client:
        client.gateway.url = "http://127.0.0.1:1"
        with pytest.raises(GatewayUnreachable):
            await client.create_job(world.request(world.encrypt().record.manifest.dataset_id))


async def test_the_synchronous_client_does_the_same(world: World) -> None:
    """In a thread, as the gateway of this test lives in this event loop."""

    def work() -> tuple[list[JobState], float]:
        with Client(world.running.url, world.owner_key, policy=world.policy, store=world.store) as client:
            encrypted = client.encrypt("sklearn:digits", world.directory / "sync.enc")
            dataset_id = client.upload_dataset(encrypted.bundle)
            job = client.create_job(world.request(dataset_id))
            client.send_grant(client.verify_job(job))
            states = [now.state for now in client.watch(job)]
            return states, float(client.predict(job, np.zeros((1, 1, 8, 8), np.float32)).scores.max())

    states, score = await asyncio.to_thread(work)
    assert states[-1] is JobState.SUCCEEDED
    assert states == sorted(states, key=list(JobState).index)
    assert 0 < score <= 1


async def test_an_interrupt_at_the_worst_moment_leaves_the_client_closable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work has been handed to the loop's thread, but its caller has nothing to cancel it by yet."""
    started = threading.Event()

    def interrupted(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> NoReturn:
        async def told() -> None:
            started.set()
            await work

        monkeypatch.undo()
        loop.call_soon_threadsafe(loop.create_task, told())
        started.wait()
        raise KeyboardInterrupt

    def work() -> None:
        with Client(world.running.url, world.owner_key, policy=world.policy, store=world.store) as client:
            dataset_id = client.upload_dataset(world.encrypt().bundle)
            events = client.watch(client.create_job(world.request(dataset_id)))
            while next(events).state is not JobState.AWAITING_GRANT:
                pass
            monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(events)

    before = set(threading.enumerate())
    await asyncio.to_thread(work)
    assert "chiron-client" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_a_policy_names_an_enclave() -> None:
    with pytest.raises(ValueError, match="measurement"):
        AttestationPolicy()
