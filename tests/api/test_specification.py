"""What follows from a job's public terms alone: the spec, and bounds of what its enclaves store and say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.api.errors import JobDoesNotFit, ObjectRefused
from chiron.api.jobs.specification import answer_limit, make_spec, object_limit, query_limit
from chiron.api.settings import Limits
from chiron.runtime.queries import SIGNATURE_BYTES
from chiron.runtime.queries.answer import answer_bytes
from chiron.runtime.queries.query import query_bytes
from chiron.runtime.sealing import hpke
from chiron.wire.attestation import Role
from chiron.wire.contract import BuilderManifest
from chiron.wire.exchange import ExchangeTerms
from chiron.wire.jobs import JobRequest, JobSpec
from chiron.wire.labels import QUERY
from chiron.wire.public_api import BuilderInfo
from tests.support.caller import BUILDER_MANIFEST, manifest


def builder() -> BuilderInfo:
    published = BuilderManifest.model_validate(BUILDER_MANIFEST)
    return BuilderInfo(
        sha256="0" * 64, publisher="lab", size=1, capabilities=(), manifest=published, created_at="now"
    )


def spec(trainers: int = 2, exchanges: int = 3, query_rows: int = 64, shards: int = 1) -> JobSpec:
    request = JobRequest(
        dataset_id="ab" * 16,
        builder_sha256="0" * 64,
        trainers=trainers,
        exchanges=exchanges,
        query_rows=query_rows,
        terms=ExchangeTerms(shards=shards),
    )
    return make_spec("cd" * 16, request, manifest(), True, builder(), Limits())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 1000), st.integers(1, 4096))
def test_all_that_enclaves_make_fits_its_bound(trainers: int, exchanges: int, query_rows: int) -> None:
    job = spec(trainers, exchanges, query_rows)
    overhead = len(hpke.seal(hpke.PrivateKey.generate().public_bytes, b"", label=QUERY, context=b""))
    assert query_limit(job) >= SIGNATURE_BYTES + query_bytes(job) + overhead
    assert answer_limit(job) >= answer_bytes(job) + overhead


@pytest.mark.parametrize("name", ["model", "outcome", "report-0000", "checkpoint-leader"])
def test_what_a_predictor_may_write_is_its_state(name: str) -> None:
    assert object_limit(spec(), name, Role.TRAINER) > 0
    assert object_limit(spec(), "settlement", Role.PREDICTOR) > 0
    with pytest.raises(ObjectRefused):
        object_limit(spec(), name, Role.PREDICTOR)


def test_a_predictor_writes_a_model_that_it_takes_over_or_sends_on_its_way() -> None:
    model = object_limit(spec(), "model", Role.TRAINER)
    assert object_limit(spec(), "model", Role.PREDICTOR, taking=True) == model
    assert object_limit(spec(), "transfer", Role.PREDICTOR) > 0
    for role in (Role.TRAINER, Role.PARAMETER_SERVER):
        with pytest.raises(ObjectRefused):
            object_limit(spec(), "transfer", role)


@pytest.mark.parametrize("name", ["model", "outcome", "report-0000", "settlement"])
def test_a_shard_writes_nothing_but_its_checkpoint(name: str) -> None:
    sharded = spec(shards=2)
    assert object_limit(sharded, "checkpoint-parameter-server-1", Role.SHARD, 1) > 0
    with pytest.raises(ObjectRefused):
        object_limit(sharded, name, Role.SHARD, 1)


@pytest.mark.parametrize("parameters", [10**6, 3])
def test_more_shards_than_the_gateway_runs_or_the_vector_fills_are_refused_by_name(parameters: int) -> None:
    published = builder()
    envelope = published.manifest.envelope.model_copy(update={"max_parameters": parameters})
    described = published.manifest.model_copy(update={"envelope": envelope})
    request = JobRequest(dataset_id="ab" * 16, builder_sha256="0" * 64, terms=ExchangeTerms(shards=4))
    with pytest.raises(JobDoesNotFit, match=r"^terms\.shards: "):
        make_spec(
            "cd" * 16,
            request,
            manifest(),
            True,
            published.model_copy(update={"manifest": described}),
            Limits(shards=3 if parameters > 3 else 64),
        )


@given(st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True))
@settings(max_examples=60, deadline=None)
def test_no_other_name_is_stored(name: str) -> None:
    if name != "checkpoint-parameter-server":
        with pytest.raises(ObjectRefused):
            object_limit(spec(), name, Role.PARAMETER_SERVER)


def test_the_spec_is_the_owners_request_within_the_builders_envelope() -> None:
    made = spec(trainers=3, exchanges=7)
    assert (made.exchange.trainers, made.exchange.exchanges) == (3, 7)
    assert made.envelope == builder().manifest.envelope
    assert made.dataset == manifest()


def test_a_regression_needs_a_builder_for_it() -> None:
    regression = manifest().model_copy(update={"task": "regression"})
    request = JobRequest(dataset_id="ab" * 16, builder_sha256="0" * 64)
    with pytest.raises(JobDoesNotFit, match="regression"):
        make_spec("cd" * 16, request, regression, True, builder(), Limits())
