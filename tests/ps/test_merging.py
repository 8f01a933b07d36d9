"""Merging: each rule against its plain definition, and the robust ones against a faulty trainer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from chiron.ps.merging import Combiner, Contribution, SharedVector, clip_scale
from chiron.ps.vectors import BLOCK, RunningNorm, clear_tiny, euclidean_norm, narrow, widen
from chiron.wire.exchange import ExchangeSpec, MergeRule

FINITE = st.floats(-1e6, 1e6, width=32)


def merged(changes: NDArray[np.float32], rule: MergeRule, trim: int = 0, weights: Any = None) -> NDArray[Any]:
    """All rows of `changes` merged in one block."""
    weights = [1.0] * len(changes) if weights is None else weights
    contributions = [Contribution(row, weight) for row, weight in zip(changes, weights, strict=True)]
    out = np.empty(changes.shape[1], np.float32)
    Combiner(contributions, rule, trim).merge(slice(0, changes.shape[1]), out)
    return out


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 40)), elements=FINITE))
def test_mean_median_and_trimmed_mean_are_what_their_names_say(changes: NDArray[np.float32]) -> None:
    exact = changes.astype(np.float64)
    np.testing.assert_allclose(merged(changes, MergeRule.MEAN), exact.mean(axis=0), rtol=1e-4, atol=1.0)
    np.testing.assert_allclose(
        merged(changes, MergeRule.MEDIAN), np.median(exact, axis=0), rtol=1e-4, atol=1.0
    )
    trim = (len(changes) - 1) // 2
    kept = np.sort(exact, axis=0)[trim : len(changes) - trim]
    np.testing.assert_allclose(
        merged(changes, MergeRule.TRIMMED_MEAN, trim), kept.mean(axis=0), rtol=1e-4, atol=1.0
    )


@pytest.mark.parametrize("rule", [MergeRule.MEDIAN, MergeRule.TRIMMED_MEAN])
def test_one_faulty_trainer_of_five_cannot_move_a_robust_merge_beyond_the_others(rule: MergeRule) -> None:
    changes = np.random.default_rng(5).normal(size=(5, 1000)).astype(np.float32)
    changes[2] = 1e15
    honest = np.delete(changes, 2, axis=0)
    result = merged(changes, rule, trim=1)
    assert (result >= honest.min(axis=0)).all()
    assert (result <= honest.max(axis=0)).all()


@given(st.lists(st.integers(1, 8 * BLOCK), max_size=12), st.sampled_from([np.float32, np.uint16]))
def test_a_norms_bits_do_not_depend_on_the_pieces(sizes: list[int], kind: Any) -> None:
    frame = np.random.default_rng(7).integers(0, 2**14, 2 * BLOCK + 17).astype(kind)
    norm = RunningNorm(frame)
    for filled in np.cumsum(sizes):
        norm.advance(min(int(filled), frame.nbytes))
    norm.advance(frame.nbytes)
    assert norm.value == euclidean_norm(frame) > 0


def test_weights_are_relative() -> None:
    changes = np.array([[1.0], [4.0]], np.float32)
    np.testing.assert_allclose(merged(changes, MergeRule.MEAN, weights=[20, 10]), [2.0])


def test_a_change_longer_than_the_bound_is_scaled_down_to_it() -> None:
    spec = ExchangeSpec(parameters=4, trainers=2, exchanges=1, clip_norm=5.0)
    change = np.full(4, 5.0, np.float32)
    norm = euclidean_norm(change)
    assert norm == 10.0
    assert clip_scale(norm, spec) == 0.5
    assert clip_scale(4.9, spec) == 1.0
    assert clip_scale(norm, spec.model_copy(update={"clip_norm": None})) == 1.0


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)))
def test_a_finite_norm_means_that_every_element_is_finite_and_moderate(change: NDArray[np.float32]) -> None:
    if np.isfinite(euclidean_norm(change)):
        assert (np.abs(change) < 2e19).all()
    else:
        assert not (np.abs(change) < 1e18).all()


@given(arrays.arrays(np.float32, 20, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_bfloat16_rounds_to_nearest_even(values: NDArray[np.float32]) -> None:
    patterns, back = np.empty(20, np.uint16), np.empty(20, np.float32)
    narrow(values, patterns)
    widen(patterns, back)
    # 2^-134 is half of bfloat16's smallest step, down where numbers lose their leading bits.
    error = np.abs(back.astype(np.float64) - values)
    assert (error <= np.maximum(np.abs(values) * 2.0**-8, 2.0**-134)).all()
    again = np.empty(20, np.uint16)
    narrow(back, again)
    np.testing.assert_array_equal(again, patterns)


def test_bfloat16_known_answers() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -2.5, 0.0, 3.140625], np.float32)
    patterns = np.empty(6, np.uint16)
    narrow(values, patterns)
    assert [f"{p:04x}" for p in patterns] == ["3f80", "3f80", "3f82", "c020", "0000", "4049"]


def test_a_vector_of_many_blocks_is_merged_to_its_last_element() -> None:
    size = 2 * BLOCK + 17
    shared = SharedVector(ExchangeSpec(parameters=size, trainers=2, exchanges=1, outer_momentum=0.5))
    change = np.arange(size, dtype=np.float32)
    shared.merge([Contribution(change, 1.0), Contribution(3 * change, 1.0)])
    np.testing.assert_allclose(shared.vector, 2 * change * 1.5, rtol=1e-6)


def test_equal_changes_in_equal_order_give_equal_bits() -> None:
    rng = np.random.default_rng(1)
    changes = [Contribution(rng.normal(size=BLOCK + 5).astype(np.float32), w) for w in (1.0, 2.0, 0.3)]
    spec = ExchangeSpec(parameters=BLOCK + 5, trainers=3, exchanges=1, outer_momentum=0.9)
    one, other = SharedVector(spec), SharedVector(spec)
    for shared in (one, other):
        for _ in range(3):
            shared.merge(changes)
    assert one.vector.tobytes() == other.vector.tobytes()


@given(arrays.arrays(np.float32, st.integers(0, 3 * 64), elements=st.floats(width=32, allow_nan=False)))
def test_what_makes_a_processor_slow_is_cleared_and_nothing_else(values: NDArray[np.float32]) -> None:
    cleared = values.copy()
    clear_tiny(cleared)
    tiny = np.abs(values) < 2.0**-63
    np.testing.assert_array_equal(cleared, np.where(tiny, 0, values))
    assert not np.signbit(cleared[tiny]).any()
