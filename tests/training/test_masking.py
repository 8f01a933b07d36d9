"""Choices and functions without branches against NumPy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.runtime.training import masking
from chiron.runtime.training.metrics import correct

VALUES = np.array([0.0, -0.0, 1.5, -2.0, 1e-42, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_selecting_and_keeping_are_where(dtype: type[np.floating]) -> None:
    first, second = VALUES.astype(dtype), VALUES[::-1].astype(dtype)
    condition = np.arange(len(first)) % 3 == 0
    chosen = np.where(condition, first, second)
    np.testing.assert_array_equal(masking.selected(condition, first, second), chosen)
    np.testing.assert_array_equal(masking.kept(condition, first), np.where(condition, first, 0))


def test_one_condition_is_for_all() -> None:
    none = np.zeros(1, np.bool_)
    np.testing.assert_array_equal(masking.selected(none, VALUES, VALUES[::-1].copy()), VALUES[::-1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_only_where_every_element_is(bad: float) -> None:
    good = np.ones((3, 4), np.float32)
    spoilt = good.copy()
    spoilt[2, 1] = bad
    assert masking.all_finite(good, np.empty(0, np.float32))
    assert not masking.all_finite(good, spoilt)


@given(st.floats(-690, 0))
def test_exp_is_numpy_s(x: float) -> None:
    assert masking.exp(np.array([x]))[0] == pytest.approx(np.exp(x), rel=4e-16)


@given(st.floats(0, 1e6))
def test_log1p_is_numpy_s(x: float) -> None:
    assert masking.log1p(np.array([x]))[0] == pytest.approx(np.log1p(x), rel=1e-15)


def test_not_a_number_stays_one() -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan([masking.exp(np.array([np.nan]))[0], masking.log1p(np.array([np.nan]))[0]]).all()


@given(st.integers(1, 6), st.integers(0, 500))
def test_correct_rows_are_those_whose_argmax_is_their_class(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (9, classes)).astype(np.float32)
    y = rng.integers(0, classes, 9)
    np.testing.assert_array_equal(correct(scores, y), scores.argmax(axis=1) == y)


def test_a_row_with_a_nan_is_not_correct() -> None:
    scores = np.array([[np.nan, 1], [np.nan, np.nan], [0, np.nan]], np.float32)
    for label in (0, 1):
        assert not correct(scores, np.full(3, label)).any()
