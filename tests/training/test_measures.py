"""Metrics against scikit-learn, augmentation by what it must keep, initial values, dropout masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from chiron.runtime.training.augmentation import augment, mix
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.metrics import (
    add_classification,
    add_regression,
    auc,
    f1,
    pairwise_auc,
    with_means,
)
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import initial_values
from chiron.runtime.training.training_model import Mask
from chiron.wasm_sandbox.recipe import Augmentations, Layout
from chiron.wire import objects
from chiron.wire.jobs import SUMS
from chiron.wire.reports import TrainingReport
from tests.support.networks import convolutional

REPORT = TrainingReport(exchange=0)


@given(st.integers(2, 7), st.integers(20, 80), st.integers(0, 500))
@settings(max_examples=60, deadline=None)
def test_classification_metrics_are_scikit_learn_s(classes: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    scores = np.round(rng.normal(size=(len(y), classes)), 1).astype(np.float32)  # with ties
    sums = np.zeros(SUMS)
    add_classification(sums, scores, y)
    sums[4] = len(y)
    report = with_means(sums, REPORT, frozenset({"top5"}))
    predicted = scores.argmax(axis=1)
    assert report.validation_accuracy == pytest.approx(reference.accuracy_score(y, predicted))
    if classes == 2:
        margin = scores[:, 1] - scores[:, 0]
        assert auc(scores, y) == pytest.approx(reference.roc_auc_score(y, margin))
        assert pairwise_auc(scores, y) == pytest.approx([auc(scores, y), 1])
        assert f1(scores, y) == pytest.approx(reference.f1_score(y, predicted))
    else:
        each = [reference.roc_auc_score(y == k, scores[:, k]) for k in range(classes)]
        assert auc(scores, y) == pytest.approx(np.mean(each))
        assert pairwise_auc(scores, y) == pytest.approx([np.sum(each), classes])
        assert f1(scores, y) == pytest.approx(reference.f1_score(y, predicted, average="macro"))


def test_top5_counts_a_class_among_the_five_highest() -> None:
    scores = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    sums = np.zeros(SUMS)
    add_classification(sums, scores, np.arange(8))
    assert sums[6] == 5


def test_regression_metrics_are_scikit_learn_s() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=60).astype(np.float32)
    predicted = (y + rng.normal(size=60) / 2).astype(np.float32)
    sums = np.zeros(SUMS)
    for part in (slice(0, 25), slice(25, 60)):  # as two trainers add them
        add_regression(sums, predicted[part], y[part])
    report = with_means(sums, REPORT, frozenset({"rmse", "r2"}))
    assert report.validation_r2 == pytest.approx(reference.r2_score(y, predicted))
    assert report.validation_rmse == pytest.approx(reference.root_mean_squared_error(y, predicted))


def test_what_was_not_measured_or_is_not_finite_is_not_told() -> None:
    sums = np.zeros(SUMS)
    assert with_means(sums, REPORT, frozenset({"r2", "auc"})) == REPORT
    sums[0], sums[2] = np.nan, 5
    assert with_means(sums, REPORT, frozenset()).train_loss is None
    assert auc(np.zeros((3, 2), np.float32), np.ones(3, np.int64)) is None
    assert pairwise_auc(np.zeros((3, 2), np.float32), np.ones(3, np.int64)).tolist() == [0, 0]


def test_a_report_of_all_metrics_fits_its_size() -> None:
    optional = [name for name, field in TrainingReport.model_fields.items() if field.default is None]
    fields = dict.fromkeys(optional, 0.1234567890123456)
    report = TrainingReport(exchange=100_000, trial=63, **fields)
    assert len(report.model_dump_json()) <= objects.REPORT_BYTES


IMAGES = np.random.default_rng(2).integers(1, 255, (40, 3, 8, 8)).astype(np.uint8)


def is_flipped(before: NDArray[np.uint8], after: NDArray[np.uint8], axis: int) -> list[bool]:
    flags = []
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(new, old) or np.array_equal(new, np.flip(old, axis))
        flags.append(not np.array_equal(new, old))
    return flags


@pytest.mark.parametrize(("axis", "name"), [(-1, "horizontal_flip"), (-2, "vertical_flip")])
def test_flips_half_of_the_images(axis: int, name: str) -> None:
    flipped = augment(IMAGES.copy(), Augmentations(**{name: True}), np.random.default_rng(3))
    assert 8 < sum(is_flipped(IMAGES, flipped, axis)) < 32


@pytest.mark.parametrize("fill", ["zero", "reflect"])
def test_crops_are_windows_of_the_padded_image(fill: str) -> None:
    settings = Augmentations(crop_padding=2, crop_fill=fill)
    cropped = augment(IMAGES.copy(), settings, np.random.default_rng(4))
    places = set()
    for old, new in zip(IMAGES, cropped, strict=True):
        mode = "constant" if fill == "zero" else "reflect"
        padded = np.pad(old, [(0, 0), (2, 2), (2, 2)], mode=mode)  # type: ignore[call-overload]
        found = [
            (r, c) for r in range(5) for c in range(5) if np.array_equal(padded[:, r : r + 8, c : c + 8], new)
        ]
        assert found
        places.add(found[0])
    assert len(places) > 10


def test_cutout_sets_one_square_to_zero() -> None:
    cut = augment(IMAGES.copy(), Augmentations(cutout=3), np.random.default_rng(5))
    for old, new in zip(IMAGES, cut, strict=True):
        gone = (new == 0).all(axis=0)
        assert 4 <= gone.sum() <= 9
        rows, columns = np.flatnonzero(gone.any(axis=1)), np.flatnonzero(gone.any(axis=0))
        assert gone.sum() == len(rows) * len(columns)
        np.testing.assert_array_equal(new[:, ~gone], old[:, ~gone])


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8)])
def test_other_layouts_are_augmented_alike(shape: tuple[int, ...]) -> None:
    first = np.ascontiguousarray(np.moveaxis(IMAGES, 1, -1)) if len(shape) == 3 else IMAGES[:, 0].copy()
    settings = {"horizontal_flip": True, "crop_padding": 2, "cutout": 3}
    last = augment(first, Augmentations(layout=Layout.CHANNELS_LAST, **settings), np.random.default_rng(6))
    plain = augment(IMAGES.copy(), Augmentations(**settings), np.random.default_rng(6))
    expected = np.moveaxis(plain, 1, -1) if len(shape) == 3 else plain[:, 0]
    np.testing.assert_array_equal(last, expected)
    assert last.flags.c_contiguous


def test_mixup_mixes_inputs_and_targets_alike() -> None:
    x = np.eye(6, dtype=np.float32)
    mixed, targets = mix(x, x.copy(), 1.0, np.random.default_rng(7))
    np.testing.assert_allclose(mixed, targets)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    pixels, _ = mix(IMAGES, np.zeros((40, 2), np.float32), 1.0, np.random.default_rng(7))
    assert pixels.dtype == np.uint8


def test_dropout_keeps_the_expected_value() -> None:
    drawn = Mask("mask", 5000, 0.25).draw(4, np.random.default_rng(8))
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(4 / 3)}
    assert drawn.mean() == pytest.approx(1, abs=0.02)


def test_initial_values_are_the_seed_s_alone() -> None:
    graph = convolutional()
    layout = FlatLayout(graph.parameters)
    first, again, other = (initial_values(graph, layout, Seeds(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    views = layout.views(first)
    assert np.abs(other - first).max() > 0
    assert views["second.weight"].std() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)
    # Two parameters of the same initialiser do not begin with the same numbers.
    assert np.abs(views["first.weight"].reshape(-1)[:20] - views["second.weight"].reshape(-1)[:20]).max() > 0


def test_seeds_of_different_paths_differ() -> None:
    seeds = Seeds(1, "a")
    paths: list[tuple[int | str, ...]] = [(1,), ("1",), (1, 1), (11,), ("a", 1), ("a/int:1",)]
    assert len({seeds.number(*path) for path in paths}) == len(paths)
