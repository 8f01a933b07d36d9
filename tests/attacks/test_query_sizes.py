"""How long a query and its answer may be: no owner and no host makes a predictor use memory without bound.

Before, 4,096 rows of 100,000 classes were a job: one row asked took the predictor to 20 GiB, and it died.
"""

import subprocess
import sys

import pytest

from chiron.api.errors import JobDoesNotFit
from chiron.api.jobs.specification import make_spec
from chiron.api.settings import Limits
from chiron.runtime.queries.answer import answer_bytes
from chiron.runtime.queries.query import query_bytes
from chiron.wire.attestation import Role
from chiron.wire.contract import BuilderManifest, InputType, Task
from chiron.wire.datasets import DatasetManifest
from chiron.wire.enclave_api import MAX_SEALED_MESSAGE_BYTES
from chiron.wire.jobs import MAX_ROWS_BYTES, JobRequest, JobSpec, query_rows_that_fit
from chiron.wire.launch import LAUNCH_VARIABLE, GatewayChannel, LaunchSpec
from chiron.wire.public_api import BuilderInfo
from tests.support.specs import builder_manifest, dataset_manifest, job_spec, launch_spec

CHANNEL = GatewayChannel(socket="unused", token="t")
MANY_CLASSES = dataset_manifest(classes=100_000)
LARGE_INPUTS = dataset_manifest(input_shape=(1024, 1024, 3))
LARGE_TARGETS = dataset_manifest(task=Task.REGRESSION, classes=0, target_shape=(512, 512))
"""Datasets of which too few rows fit for the 4,096 that a request may name."""
DATASETS = [
    pytest.param(MANY_CLASSES, id="classes"),
    pytest.param(LARGE_INPUTS, id="inputs"),
    pytest.param(LARGE_TARGETS, id="targets"),
]


def _created(dataset: DatasetManifest, query_rows: int) -> JobSpec:
    manifest = builder_manifest(tasks=list(Task), max_input_elements=2**80)
    published = BuilderManifest.model_validate(manifest.model_dump())
    builder = BuilderInfo.model_validate(
        {
            "sha256": "b" * 64,
            "size": 1,
            "capabilities": (),
            "manifest": published,
            "created_at": "",
            "publisher": "us",
        }
    )
    request = JobRequest(
        dataset_id=dataset.dataset_id, builder_sha256="b" * 64, trainers=1, query_rows=query_rows
    )
    return make_spec("a" * 32, request, dataset, True, builder, Limits())


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_gateway_creates_no_job_whose_queries_or_answers_exhaust_a_predictor(
    dataset: DatasetManifest,
) -> None:
    most = query_rows_that_fit(dataset)
    spec = _created(dataset, most)
    for longest in (query_bytes(spec), answer_bytes(spec)):
        assert longest < MAX_ROWS_BYTES + 8192 < MAX_SEALED_MESSAGE_BYTES
    with pytest.raises(JobDoesNotFit, match=rf"^query_rows: .*at most {most} .*--query-rows {most}\)$"):
        _created(dataset, most + 1)


def test_a_dataset_of_which_no_row_fits_is_refused_by_name() -> None:
    for shape, rows in [((2**20, 12), 1), ((2**20, 12, 1, 2), 0), ((2**20,) * 4, 0)]:
        dataset = dataset_manifest(input_shape=shape, input_dtype=InputType.FLOAT32)
        assert query_rows_that_fit(dataset) == rows
    with pytest.raises(JobDoesNotFit, match=r"^dataset_id: one row"):
        _created(dataset, 1)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_hosts_launch_of_such_a_job_is_refused_in_the_enclave(dataset: DatasetManifest) -> None:
    most = query_rows_that_fit(dataset)
    launch_spec(job_spec(dataset=dataset, query_rows=most), Role.PREDICTOR, CHANNEL)
    with pytest.raises(ValueError, match="lower query_rows"):
        launch_spec(job_spec(dataset=dataset, query_rows=most + 1), Role.PREDICTOR, CHANNEL)


def test_an_enclave_that_is_launched_so_ends_before_it_does_anything() -> None:
    fits = launch_spec(job_spec(dataset=MANY_CLASSES, query_rows=1), Role.PREDICTOR, CHANNEL)
    hostile = LaunchSpec.model_construct(
        **dict(fits) | {"spec": fits.spec.model_copy(update={"query_rows": 4096})}
    )
    ended = subprocess.run(
        [sys.executable, "-m", "chiron.runtime"],
        env={LAUNCH_VARIABLE: hostile.model_dump_json(exclude_none=True)},
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert b"launch-spec-invalid" in ended.stderr
