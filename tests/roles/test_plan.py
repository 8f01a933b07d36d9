"""Plans as trainer 0 publishes them: what was admitted comes out, anything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.runtime.errors import PeerRefused
from chiron.runtime.roles.plan import NO_PLAN, decode_plan, read_plan
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wire.jobs import JobSpec, exchanges_of, plan_bytes, shares
from tests.support import graphs
from tests.support.jobs import make_job


@pytest.fixture(scope="module")
def spec() -> JobSpec:
    return make_job(np.zeros((70, 64), np.float32), np.zeros(70, np.int64), classes=10, rows=32).spec


@pytest.fixture(scope="module")
def graph() -> bytes:
    return graphs.linear((64,), 1)


def test_a_published_plan_is_the_one_that_was_read(spec: JobSpec, graph: bytes) -> None:
    plan = read_plan(spec, 0, graph, graphs.RECIPE)
    assert len(plan.published) <= plan_bytes(spec)
    decoded = decode_plan(spec, 0, plan.published.ljust(plan_bytes(spec), b"\0"))
    assert decoded == plan


def test_no_plan_is_published_at_the_same_size_and_read_as_none(spec: JobSpec) -> None:
    assert decode_plan(spec, 0, NO_PLAN.ljust(plan_bytes(spec), b"\0")) is None


def test_a_plan_larger_than_the_envelope_is_refused(spec: JobSpec, graph: bytes) -> None:
    padded = graphs.RECIPE.ljust(spec.envelope.max_graph_bytes - len(graph) + 1)
    with pytest.raises(SandboxError) as refusal:
        read_plan(spec, 0, graph, padded)
    assert refusal.value.code == "plan-too-large"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_cleanly(spec: JobSpec, published: bytes) -> None:
    with pytest.raises(PeerRefused):
        decode_plan(spec, 0, published)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_byte_gives_a_plan_or_a_clean_refusal(
    spec: JobSpec, graph: bytes, place: int, change: int
) -> None:
    published = bytearray(read_plan(spec, 0, graph, graphs.RECIPE).published)
    published[place % len(published)] ^= change
    try:
        decoded = decode_plan(spec, 0, bytes(published))
    except PeerRefused:
        pass
    else:
        assert decoded is None or len(decoded.graph) <= spec.envelope.max_graph_bytes


@given(st.integers(1, 64), st.integers(0, 200))
def test_trials_share_the_exchanges_without_gap_or_overlap(trials: int, extra: int) -> None:
    base = make_job(np.zeros((4, 2), np.float32), np.zeros(4, np.int64), classes=2, rows=4).spec
    exchange = base.exchange.model_copy(update={"exchanges": trials + extra})
    spec = base.model_copy(update={"trials": trials, "exchange": exchange})
    numbers = [number for trial in range(trials) for number in exchanges_of(spec, trial)]
    assert numbers == list(range(trials + extra))


def test_a_trainers_share_is_the_rows_that_it_reads() -> None:
    spec = make_job(
        np.zeros((70, 2), np.float32), np.zeros(70, np.int64), classes=2, rows=32, trainers=2
    ).spec
    assert shares(spec) == [32 + 6, 32]
