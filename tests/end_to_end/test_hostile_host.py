"""A host that serves other bytes than it was given: real enclaves notice, and fail with a fixed code."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from chiron import Client, JobRequest, policy_of
from chiron.client.datasets import Encrypted
from chiron.client.errors import EvidenceRejected, GatewayError, JobEnded
from chiron.runtime.attestation.steps import Step
from chiron.wire.jobs import PublicFailure
from tests.end_to_end.service import (
    Service,
    encrypted_digits,
    publish_linear,
    run_to_end,
    serving,
    start_and_grant,
    stopped,
)
from tests.support.images import copied, make_it_start, replace
from tests.support.specs import UNPACED

Tamper = Callable[[list[Path]], None]


def _alter(chunks: list[Path]) -> None:
    content = bytearray(chunks[3].read_bytes())
    content[100] ^= 1
    chunks[3].write_bytes(content)


def _reorder(chunks: list[Path]) -> None:
    first, second = chunks[0].read_bytes(), chunks[2].read_bytes()
    chunks[0].write_bytes(second)
    chunks[2].write_bytes(first)


def _repeat(chunks: list[Path]) -> None:
    chunks[1].write_bytes(chunks[0].read_bytes())


def _replace_by_foreign(chunks: list[Path]) -> None:
    chunks[0].write_bytes(bytes(chunks[0].stat().st_size))


@pytest.mark.parametrize("tamper", [_alter, _reorder, _repeat, _replace_by_foreign])
def test_chunks_that_are_not_the_owners_end_the_job_as_input_corrupted(
    service: Service, owner: Client, linear: str, tmp_path: Path, tamper: Tamper
) -> None:
    encrypted = encrypted_digits(owner, tmp_path / "digits.enc")
    dataset_id = encrypted.bundle.manifest.dataset_id
    (directory,) = service.state.glob(f"blobs/datasets/*/{dataset_id}")
    tamper(sorted(directory.iterdir(), key=lambda path: int(path.name)))
    request = JobRequest(terms=UNPACED, dataset_id=dataset_id, builder_sha256=linear, trainers=1, exchanges=2)
    with pytest.raises(JobEnded) as ended:
        owner.wait(start_and_grant(owner, request))
    assert ended.value.code == PublicFailure.INPUT_CORRUPTED


def test_another_component_than_the_jobs_ends_it_as_input_corrupted(
    service: Service, owner: Client, digits: Encrypted, linear: str
) -> None:
    (stored,) = service.state.glob(f"blobs/builders/{linear}")
    honest = stored.read_bytes()
    stored.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    request = JobRequest(
        terms=UNPACED,
        dataset_id=digits.bundle.manifest.dataset_id,
        builder_sha256=linear,
        trainers=1,
        exchanges=1,
    )
    try:
        with pytest.raises(JobEnded) as ended:
            owner.wait(start_and_grant(owner, request))
    finally:
        stored.write_bytes(honest)
    assert ended.value.code == PublicFailure.INPUT_CORRUPTED


def test_an_altered_model_is_not_opened_and_the_honest_one_still_is(
    service: Service, owner: Client, digits: Encrypted, linear: str
) -> None:
    request = JobRequest(
        terms=UNPACED,
        dataset_id=digits.bundle.manifest.dataset_id,
        builder_sha256=linear,
        trainers=1,
        exchanges=2,
    )
    job, _ = run_to_end(owner, request)
    rows = np.zeros((1, *job.spec.dataset.input_shape), job.spec.dataset.input_dtype.value)
    (stored,) = service.state.glob(f"blobs/jobs/{job.spec.job}/model/*")
    honest = stored.read_bytes()
    stored.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    with pytest.raises(GatewayError):
        owner.predict(job, rows)
    stored.write_bytes(honest)
    stopped(service, job.spec.job)
    assert len(owner.predict(job, rows)) == 1


def test_one_changed_byte_in_the_image_is_another_measurement_and_gets_no_grant(
    service: Service, image: Path, tmp_path: Path
) -> None:
    copy = copied(image, tmp_path / "image")
    (altered,) = copy.rglob("site-packages/chiron/runtime/roles/grant.py")
    replace(altered, altered.read_bytes().replace(b"Opening a grant", b"Opening a Grant"))
    make_it_start(copy)
    with TemporaryDirectory(prefix="chiron-test-") as directory:
        places = Path(directory, "state"), Path(directory, "home")
        with serving(*places, "--image", str(copy)) as tampered:
            assert tampered.measurement != service.measurement
            honest = policy_of([service.measurement], software_root=tampered.software_root)
            with tampered.owner(honest) as owner, tampered.operator() as operator:
                encrypted = encrypted_digits(owner, tmp_path / "digits.enc")
                builder = publish_linear(operator, encrypted)
                dataset_id = encrypted.bundle.manifest.dataset_id
                job = owner.create_job(JobRequest(dataset_id=dataset_id, builder_sha256=builder))
                with pytest.raises(EvidenceRejected) as refusal:
                    owner.verify_job(job)
                owner.cancel(job)
    assert refusal.value.steps[-1].step is Step.MEASUREMENT
