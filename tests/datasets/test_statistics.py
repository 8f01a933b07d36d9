"""Statistics and samples are what NumPy says of the plain rows, and nothing that was not granted is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.datasets import ChunkForm, EncryptedDataset, Examples
from chiron.runtime.datasets.statistics import QUANTILE_LEVELS, Moments, collect, granularity_of
from chiron.runtime.errors import ChunkAltered
from chiron.wasm_sandbox.capability_data import Columns, Granularity
from chiron.wire.contract import Capability, CapabilityGrants, InputType, Task
from tests.datasets.test_encrypted_dataset import FORM, Host, encrypt, examples_of

STATISTICS = CapabilityGrants(granted=frozenset({Capability.DATASET_STATISTICS}))
NOTHING_MORE = CapabilityGrants()


def sampling(count: int) -> CapabilityGrants:
    return CapabilityGrants(granted=frozenset({Capability.DATASET_SAMPLE}), sample_examples=count)


def whole(dataset: EncryptedDataset) -> range:
    return range(dataset.manifest.chunks)


def assert_columns(found: Columns, rows: np.ndarray) -> None:
    """`rows`: [values, columns]."""
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.standard_deviation, rows.std(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.minimum, rows.min(axis=0).astype(np.float32))
    np.testing.assert_array_equal(found.maximum, rows.max(axis=0).astype(np.float32))


async def test_statistics_of_a_classification() -> None:
    examples = examples_of(FORM, 41)
    dataset = encrypt(FORM, examples).reader()
    data = await collect(dataset, whole(dataset), STATISTICS, seed=3)
    assert data.sample is None
    found = data.statistics
    assert found is not None
    assert found.granularity is Granularity.ELEMENT
    flat = examples.x.reshape(41, -1).astype(np.float64)
    assert_columns(found.inputs, flat)
    np.testing.assert_allclose(found.input_quantiles, np.quantile(flat, QUANTILE_LEVELS, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.class_counts, np.bincount(examples.y, minlength=FORM.classes))
    assert len(found.targets) == 0


async def test_statistics_of_a_regression() -> None:
    form = ChunkForm(Task.REGRESSION, (5,), InputType.FLOAT32, (2, 2), 0, 8)
    examples = examples_of(form, 30)
    dataset = encrypt(form, examples).reader()
    found = (await collect(dataset, whole(dataset), STATISTICS, seed=0)).statistics
    assert found is not None
    assert_columns(found.inputs, examples.x)
    assert_columns(found.targets, examples.y.reshape(30, 4))
    assert len(found.class_counts) == 0


@pytest.mark.parametrize(
    ("shape", "granularity", "columns"),
    [
        ((), Granularity.ELEMENT, 1),
        ((3, 64, 64), Granularity.ELEMENT, 12_288),
        ((3, 128, 128), Granularity.FIRST_DIMENSION, 3),
        ((20_000,), Granularity.WHOLE, 1),
    ],
)
def test_large_inputs_are_summarised_more_coarsely(
    shape: tuple[int, ...], granularity: Granularity, columns: int
) -> None:
    assert granularity_of(shape) == (granularity, columns)


async def test_statistics_by_first_dimension() -> None:
    form = ChunkForm(Task.CLASSIFICATION, (3, 80, 80), InputType.UINT8, (), 2, 4)
    examples = examples_of(form, 6)
    dataset = encrypt(form, examples).reader()
    found = (await collect(dataset, whole(dataset), STATISTICS, seed=0)).statistics
    assert found is not None
    assert_columns(found.inputs, examples.x.transpose(0, 2, 3, 1).reshape(-1, 3).astype(np.float64))
    assert found.input_quantiles.shape == (len(QUANTILE_LEVELS), 3)


async def test_a_sample_is_the_owners_rows_bounded_and_chosen_by_the_seed() -> None:
    examples = examples_of(FORM, 50)
    dataset = encrypt(FORM, examples).reader()

    async def sampled(count: int, seed: int) -> Examples:
        sample = (await collect(dataset, whole(dataset), sampling(count), seed)).sample
        assert sample is not None
        return Examples(sample.inputs, sample.targets)

    first, again, other = [await sampled(7, seed) for seed in (1, 1, 2)]
    assert first.x.shape == (7, 2, 3)
    assert first.y.shape == (7,)
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)
    rows = {(x.tobytes(), int(y)) for x, y in zip(examples.x, examples.y, strict=True)}
    assert all((x.tobytes(), int(y)) in rows for x, y in zip(first.x, first.y, strict=True))
    assert len({x.tobytes() for x in first.x}) == 7
    assert len((await sampled(1000, 1)).x) == 50


async def test_without_a_grant_for_it_no_chunk_is_read() -> None:
    host = encrypt(FORM, examples_of(FORM, 9))
    dataset = host.reader()
    data = await collect(dataset, whole(dataset), NOTHING_MORE, seed=0)
    assert (data.statistics, data.sample, data.shape.examples) == (None, None, 9)
    assert host.requests == []


async def test_each_chunk_is_read_once_and_an_altered_one_is_refused() -> None:
    host = encrypt(FORM, examples_of(FORM, 9))
    dataset = host.reader()
    grants = CapabilityGrants(
        granted=frozenset({Capability.DATASET_STATISTICS, Capability.DATASET_SAMPLE}), sample_examples=2
    )
    await collect(dataset, whole(dataset), grants, seed=0)
    assert host.requests == list(whole(dataset))
    altered = Host(host.manifest, [*host.chunks[:-1], bytes(len(host.chunks[-1]))])
    with pytest.raises(ChunkAltered):
        await collect(altered.reader(), whole(dataset), grants, seed=0)


async def test_values_that_are_not_finite_stay_in_their_columns() -> None:
    form = ChunkForm(Task.REGRESSION, (3,), InputType.FLOAT32, (), 0, 4)
    x = np.ones((8, 3), np.float32)
    x[3, 1], x[5, 2] = np.nan, np.inf
    dataset = encrypt(form, Examples(x, np.zeros(8, np.float32))).reader()
    found = (await collect(dataset, whole(dataset), STATISTICS, seed=0)).statistics
    assert found is not None
    assert (found.inputs.mean[0], found.inputs.standard_deviation[0]) == (1, 0)
    assert not np.isfinite(found.inputs.mean[1:]).any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-1e6, 1e6), st.integers(0, 99))
def test_moments_do_not_depend_on_how_the_rows_are_cut(sizes: list[int], offset: float, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(offset, 3, (sum(sizes), 2, 4))
    moments = Moments(2)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        moments.add(part)
    assert_columns(moments.columns(), rows.transpose(0, 2, 1).reshape(-1, 2))
