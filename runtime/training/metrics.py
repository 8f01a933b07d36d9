"""Trainers' measurements: sums that add up over trainers, and the means that a report tells.

AUC and F1 do not add up: they are each trainer's own, weighted by its number of validation rows.
"""

import math

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import Examples
from chiron.runtime.training.allocation import evaluation_rows
from chiron.runtime.training.graphs import forward_model, preprocess
from chiron.runtime.training.layout import FlatLayout, Vector
from chiron.runtime.training.losses import loss_sum, one_hot
from chiron.runtime.training.masking import kept
from chiron.runtime.training.sessions import ForwardSession
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Metric, Recipe
from chiron.wire.contract import BuildRequest
from chiron.wire.reports import TrainingReport


class Place:
    """The place of each sum among the SUMS; the last is the role's (`chiron.wire.jobs.IDLE`)."""

    TRAIN_LOSS, TRAIN_CORRECT, TRAIN_COUNT = 0, 1, 2
    LOSS, COUNT, CORRECT, TOP5 = 3, 4, 5, 6
    AUC, AUC_WEIGHT, F1, F1_WEIGHT = 7, 8, 9, 10
    SQUARED_ERROR, TARGET, TARGET_SQUARED, ELEMENTS = 11, 12, 13, 14
    DIVERGED = 15


def correct(scores: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The rows, [n], whose highest score [n, classes], the first of equal ones, is that of their class [n].

    A row with a NaN is none of them.
    """
    own, classes = _own(scores, y), scores.shape[1]
    later = np.arange(classes) >= y[:, None]
    surpassed = (scores < own) | ((scores == own) & later)
    return np.asarray(surpassed.sum(axis=1) == classes)


def _own(scores: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores of the rows' own classes, [n, 1]."""
    own: NDArray[np.float32] = kept(one_hot(y, scores.shape[1]), scores).sum(axis=1, keepdims=True)
    return own


def add_classification(sums: NDArray[np.float64], scores: NDArray[np.float32], y: NDArray[np.int64]) -> None:
    """Add what one batch of validation rows says of accuracy and top 5."""
    sums[Place.CORRECT] += correct(scores, y).sum()
    sums[Place.TOP5] += ((scores > _own(scores, y)).sum(axis=1) < 5).sum()


def add_regression(sums: NDArray[np.float64], values: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    """Add what one batch of validation rows says of squared error and variance."""
    target = y.astype(np.float64)
    sums[Place.SQUARED_ERROR] += np.square(values - target).sum()
    sums[Place.TARGET] += target.sum()
    sums[Place.TARGET_SQUARED] += np.square(target).sum()
    sums[Place.ELEMENTS] += target.size


def auc(scores: NDArray[np.float32], y: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve: of the second class of two, else the mean of one class against the rest.

    The probability that a positive row scores above a negative one, ties counting half (Mann–Whitney).
    None if no class has both kinds of rows.
    """
    classes = scores.shape[1]
    areas = [
        area
        for positive in (range(1, 2) if classes == 2 else np.unique(y))
        if (area := _area(scores[:, positive] - (scores[:, 0] if classes == 2 else 0), y == positive))
        is not None
    ]
    return float(np.mean(areas)) if areas else None


def _area(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def f1(predicted: NDArray[np.int64], y: NDArray[np.int64], classes: int) -> float:
    """F1 of the second class of two, else the mean over the classes that occur."""
    hits = np.bincount(y[predicted == y], minlength=classes).astype(np.float64)
    total = np.bincount(y, minlength=classes) + np.bincount(predicted, minlength=classes)
    each = np.divide(2 * hits, total, out=np.zeros(classes), where=total > 0)
    return float(each[1]) if classes == 2 else float(each[total > 0].mean())


def with_means(sums: NDArray[np.float64], report: TrainingReport, wanted: frozenset[str]) -> TrainingReport:
    """Add the means of these sums over all trainers to `report`."""
    s, p = sums.tolist(), Place
    classification = s[p.ELEMENTS] == 0
    found: dict[str, float | None] = {
        "train_loss": _ratio(s[p.TRAIN_LOSS], s[p.TRAIN_COUNT]),
        "validation_loss": _ratio(s[p.LOSS], s[p.COUNT]),
    }
    if classification:
        found["train_accuracy"] = _ratio(s[p.TRAIN_CORRECT], s[p.TRAIN_COUNT])
        found["validation_accuracy"] = _ratio(s[p.CORRECT], s[p.COUNT])
        optional = {
            "top5": _ratio(s[p.TOP5], s[p.COUNT]),
            "auc": _ratio(s[p.AUC], s[p.AUC_WEIGHT]),
            "f1": _ratio(s[p.F1], s[p.F1_WEIGHT]),
        }
    else:
        optional = {"rmse": _rmse(s), "r2": _r2(s)}
    found |= {f"validation_{name}": value for name, value in optional.items() if name in wanted}
    return report.model_copy(update=found | {"diverged": s[p.DIVERGED] > 0})


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 and math.isfinite(part) else None


def _rmse(s: list[float]) -> float | None:
    mean = _ratio(s[Place.SQUARED_ERROR], s[Place.ELEMENTS])
    return None if mean is None else math.sqrt(mean)


def _r2(s: list[float]) -> float | None:
    """Coefficient of determination over all elements; None where the targets do not vary."""
    variation = s[Place.TARGET_SQUARED] - s[Place.TARGET] ** 2 / max(s[Place.ELEMENTS], 1)
    ratio = _ratio(s[Place.SQUARED_ERROR], variation)
    return None if ratio is None else 1 - ratio


class Validator:
    """Evaluates `vector`, which it shares with the one who trains it."""

    def __init__(
        self,
        graph: AdmittedGraph,
        recipe: Recipe,
        request: BuildRequest,
        layout: FlatLayout,
        vector: Vector,
        threads: int,
    ) -> None:
        model = forward_model(graph)
        preprocess(model.graph, recipe)
        self._session = ForwardSession(model.SerializeToString(), layout, vector, threads)
        self._recipe, self._request = recipe, request
        self._rows = evaluation_rows(graph)

    def add(self, examples: Examples, sums: NDArray[np.float64]) -> None:
        """Add loss and metrics of these rows to `sums`."""
        ranked = {Metric.AUC, Metric.F1} & set(self._recipe.metrics)
        kept: list[NDArray[np.float32]] = []
        for start in range(0, len(examples.x), self._rows):
            x, y = examples.x[start : start + self._rows], examples.y[start : start + self._rows]
            outputs = self._session.run(x)
            sums[Place.LOSS] += loss_sum(self._recipe.loss, outputs, y)
            sums[Place.COUNT] += len(y)
            if self._request.classes:
                add_classification(sums, outputs, y)
                if ranked:
                    kept.append(outputs)
            else:
                add_regression(sums, outputs, y)
        if kept:
            self._add_ranked(np.concatenate(kept), examples.y, sums)

    def _add_ranked(
        self, scores: NDArray[np.float32], y: NDArray[np.int64], sums: NDArray[np.float64]
    ) -> None:
        scores = np.nan_to_num(scores)
        area = auc(scores, y) if Metric.AUC in self._recipe.metrics else None
        if area is not None:
            sums[Place.AUC] += area * len(y)
            sums[Place.AUC_WEIGHT] += len(y)
        if Metric.F1 in self._recipe.metrics:
            sums[Place.F1] += f1(scores.argmax(axis=1), y, self._request.classes) * len(y)
            sums[Place.F1_WEIGHT] += len(y)
