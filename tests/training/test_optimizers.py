"""AdamW and SGD on flat vectors against their formulas, written plainly in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.training.optimizers import (
    BLOCK,
    average,
    clip,
    learning_rate,
    optimizer_state,
    squared_norm,
)
from chiron.wasm_sandbox.recipe import AdamW, Constant, Cosine, OneCycle, Recipe, Sgd, Step

ELEMENTS = BLOCK + 1000
DECAYED = [slice(10, 500), slice(BLOCK - 5, BLOCK + 5)]


def gradients(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=ELEMENTS).astype(np.float32) for _ in range(count)]


def decay_mask() -> np.ndarray:
    mask = np.zeros(ELEMENTS)
    for span in DECAYED:
        mask[span] = 1
    return mask


def test_adamw_is_the_paper_s_algorithm() -> None:
    chosen = AdamW(weight_decay=0.1, beta1=0.8, beta2=0.95)
    state = optimizer_state(chosen, ELEMENTS, DECAYED)
    vector = np.random.default_rng(1).normal(size=ELEMENTS).astype(np.float32)
    w, m, v = vector.astype(np.float64), np.zeros(ELEMENTS), np.zeros(ELEMENTS)
    for number, gradient in enumerate(gradients(5), start=1):
        g, rate = gradient.astype(np.float64), 0.01 * number
        state.update(vector, gradient, rate)
        w -= rate * 0.1 * w * decay_mask()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        w -= rate * (m / (1 - 0.8**number)) / (np.sqrt(v / (1 - 0.95**number)) + chosen.epsilon)
    np.testing.assert_allclose(vector, w, rtol=2e-5, atol=2e-6)


def test_adamw_of_several_trainers_averages_to_the_same_noise() -> None:
    """Pure noise, whose deviation in a share is √n times the batch's: the mean of n trainers moves as far."""
    rng, trainers, steps = np.random.default_rng(4), 4, 200
    batch = rng.normal(size=(steps, trainers, 4000)).astype(np.float32)

    def moved(shares: np.ndarray, count: int) -> np.ndarray:
        state = optimizer_state(AdamW(weight_decay=0), 4000, [], trainers=count)
        vector = np.zeros(4000, np.float32)
        for gradient in shares:
            state.update(vector, gradient.copy(), 1e-3)
        return vector

    alone = moved(batch.mean(axis=1), 1)
    together = np.mean([moved(batch[:, k], trainers) for k in range(trainers)], axis=0)
    assert together.std() == pytest.approx(alone.std(), rel=0.1)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_is_pytorch_s_rule(momentum: float, nesterov: bool) -> None:
    chosen = Sgd(momentum=momentum, nesterov=nesterov, weight_decay=0.05)
    state = optimizer_state(chosen, ELEMENTS, DECAYED)
    vector = np.random.default_rng(1).normal(size=ELEMENTS).astype(np.float32)
    w, velocity = vector.astype(np.float64), np.zeros(ELEMENTS)
    for gradient in gradients(4):
        g = gradient.astype(np.float64) + 0.05 * w * decay_mask()
        state.update(vector, gradient, 0.1)
        velocity = momentum * velocity + g
        w -= 0.1 * (g + momentum * velocity if nesterov else velocity)
    np.testing.assert_allclose(vector, w, rtol=2e-5, atol=2e-6)


def test_clipping_bounds_norm_and_elements() -> None:
    gradient = gradients(1)[0]
    clip(gradient, 2.0, None, squared_norm(gradient))
    assert np.linalg.norm(gradient.astype(np.float64)) == pytest.approx(2.0, rel=1e-4)
    gradient = gradients(1)[0]
    small = gradient * np.float32(1e-6)
    kept = small.copy()
    clip(small, 2.0, None, squared_norm(small))
    np.testing.assert_array_equal(small, kept)
    clip(gradient, None, 0.5, squared_norm(gradient))
    assert np.abs(gradient).max() == np.float32(0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_norm_of_a_gradient_that_is_not_usable_is_not_finite(bad: float) -> None:
    gradient = gradients(1)[0]
    gradient[BLOCK + 1] = bad
    assert not math.isfinite(squared_norm(gradient))


def test_moving_average() -> None:
    mean, vector = gradients(2)
    expected = 0.9 * mean.astype(np.float64) + 0.1 * vector
    average(mean, vector, 0.9, np.ones(1, np.bool_))
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


schedules = st.sampled_from([Constant(), Step(), Cosine(final_fraction=0.1), OneCycle()])


@given(schedules, st.integers(1, 500), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_learning_rate_never_exceeds_its_peak(schedule: Step, steps: int, warmup: float) -> None:
    recipe = Recipe(schedule=schedule, warmup=warmup, optimizer=AdamW(learning_rate=0.1))
    rates = [learning_rate(recipe, step, steps) for step in range(steps)]
    assert all(0 <= rate <= 0.1 * (1 + 1e-9) for rate in rates)
    rising = rates[: round(warmup * steps)]
    assert rising == sorted(rising)


def test_schedules_known_values() -> None:
    def rates(schedule: object, *at: int) -> list[float]:
        recipe = Recipe.model_validate({"schedule": schedule, "optimizer": AdamW(learning_rate=1.0)})
        return [learning_rate(recipe, step, 100) for step in at]

    assert rates(Constant(), 0, 99) == [1, 1]
    assert rates(Step(), 0, 49, 50, 75) == pytest.approx([1, 1, 0.1, 0.01])
    assert rates(Cosine(), 0, 50) == pytest.approx([1, 0.5])
    assert rates(Cosine(final_fraction=0.2), 50) == pytest.approx([0.6])
    assert rates(OneCycle(), 0, 15, 30, 65) == pytest.approx([0.04, 0.52, 1, 0.50005])
