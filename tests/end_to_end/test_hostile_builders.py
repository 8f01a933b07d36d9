"""Builders that misbehave in real enclaves: the host sees a job like any other, the owner learns why."""

import numpy as np
import pytest

from chiron import Client, JobRequest
from chiron.builder_kit.component import static_component
from chiron.client.datasets import Encrypted
from chiron.client.errors import AnswerRefused, GatewayError
from chiron.wire.jobs import JobState
from chiron.wire.reports import OutcomeStatus
from tests.end_to_end.service import MANIFEST as LINEAR
from tests.end_to_end.service import Service, element_type, run_to_end
from tests.support import graphs
from tests.support.builders import ENDLESS, GREEDY, component
from tests.support.specs import UNPACED

MANIFEST = LINEAR.model_copy(update={"name": "hostile"})
"""No two components have one name: each kind adds its own."""


def _plan(kind: str, digits: Encrypted) -> bytes:
    shape = digits.bundle.manifest.input_shape
    builders = {
        "loops-forever": lambda: component(ENDLESS),
        "grows-memory": lambda: component(GREEDY),
        "traps": lambda: component("unreachable"),
        "not-onnx": lambda: static_component(b"this is no protobuf \xff\xff\xff", graphs.RECIPE),
        "foreign-operator": lambda: static_component(graphs.foreign_operator(), graphs.RECIPE),
        "exceeds-envelope": lambda: static_component(
            graphs.linear(shape, element_type(digits), width=5000), graphs.RECIPE
        ),
        "recipe-is-none": lambda: static_component(
            graphs.linear(shape, element_type(digits)), b'{"batch_size": -1}'
        ),
    }
    return builders[kind]()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("loops-forever", "builder-out-of-fuel"),
        ("grows-memory", "builder-trapped"),
        ("traps", "builder-trapped"),
        ("not-onnx", "graph-malformed"),
        ("foreign-operator", "domain-not-allowed"),
        ("exceeds-envelope", "parameters-exceed-envelope"),
        ("recipe-is-none", "recipe-invalid"),
    ],
)
def test_a_misbehaving_builder_ends_in_a_sealed_code_and_an_ordinary_schedule(
    service: Service, owner: Client, digits: Encrypted, kind: str, code: str
) -> None:
    with service.operator() as operator:
        manifest = MANIFEST.model_copy(update={"name": f"hostile-{kind}"})
        info = operator.upload_builder(_plan(kind, digits), manifest.model_dump_json().encode())
    request = JobRequest(
        terms=UNPACED,
        dataset_id=digits.bundle.manifest.dataset_id,
        builder_sha256=info.sha256,
        trainers=1,
        exchanges=2,
    )
    job, outcome = run_to_end(owner, request)
    assert (outcome.status, outcome.code) == (OutcomeStatus.BUILDER_REFUSED, code)
    assert job.state is JobState.SUCCEEDED
    assert job.failure is None
    assert job.exchanges_done == 2
    with pytest.raises(AnswerRefused) as refusal:
        owner.predict(job, np.zeros((1, *job.spec.dataset.input_shape), job.spec.dataset.input_dtype.value))
    assert refusal.value.code == "model-unusable"


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"\x00asm garbage", "component-malformed"),
        (b"\x00asm\x01\x00\x00\x00", "component-is-core-module"),
        (b"no wasm at all", "component-malformed"),
    ],
)
def test_what_is_no_component_is_refused_at_the_door(service: Service, garbage: bytes, code: str) -> None:
    with service.operator() as operator, pytest.raises(GatewayError) as refusal:
        operator.upload_builder(garbage, MANIFEST.model_dump_json().encode())
    assert refusal.value.code == code
