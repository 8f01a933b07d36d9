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
from chiron.runtime.training.rewrites import finish_strict
from chiron.runtime.training.sessions import ForwardSession
from chiron.runtime.training.sums import Place
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Metric, Recipe
from chiron.wire.contract import BuildRequest, Oblivious
from chiron.wire.reports import TrainingReport

_LARGEST = float(np.finfo(np.float32).max)
_PAIRED = 256
"""Rows that are compared with all others at a time."""


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


def pairwise_auc(scores: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """What `auc` answers, from every pair of rows instead of by sorting: [sum of areas, number of areas]."""
    found = np.zeros(2)
    classes = scores.shape[1]
    for positive in range(1, 2) if classes == 2 else range(classes):
        score = scores[:, positive] - (scores[:, 0] if classes == 2 else np.float32(0))
        mine = (y == positive).astype(np.float64)
        wins = np.zeros(1)
        for start in range(0, len(y), _PAIRED):
            part = score[start : start + _PAIRED, None]
            above = (part > score).astype(np.float64) + (part == score) / 2
            wins += mine[start : start + _PAIRED] @ above @ (1 - mine)
        pairs = mine.sum() * (1 - mine).sum()
        found += np.concatenate([wins / np.maximum(pairs, 1), np.minimum(pairs, 1).reshape(1)])
    return found


def f1(scores: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """F1 of the second class of two, else the mean over the classes that occur."""
    highest = scores == scores.max(axis=1, keepdims=True)
    predicted = (highest & (np.cumsum(highest, axis=1) == 1)).astype(np.float64)
    true = one_hot(y, scores.shape[1]).astype(np.float64)
    total = true.sum(axis=0) + predicted.sum(axis=0)
    each = 2 * (true * predicted).sum(axis=0) / np.maximum(total, 1)
    occurs = (total > 0).astype(np.float64)
    return float(each[1]) if len(each) == 2 else float((each * occurs).sum() / occurs.sum())


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
        oblivious: Oblivious = Oblivious.CLAMPED,
    ) -> None:
        model = forward_model(graph)
        preprocess(model.graph, recipe)
        if oblivious is Oblivious.STRICT:
            finish_strict(model)
        self._session = ForwardSession(model.SerializeToString(), layout, vector, threads)
        self._recipe, self._request, self._oblivious = recipe, request, oblivious
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
        # As numbers: NaN is 0, and what is infinite the largest.
        scores = np.clip(kept(scores == scores, scores), -_LARGEST, _LARGEST)
        if Metric.AUC in self._recipe.metrics:
            area, count = self._area(scores, y)
            sums[Place.AUC] += area / np.maximum(count, 1) * len(y)
            sums[Place.AUC_WEIGHT] += np.minimum(count, 1) * len(y)
        if Metric.F1 in self._recipe.metrics:
            sums[Place.F1] += f1(scores, y) * len(y)
            sums[Place.F1_WEIGHT] += len(y)

    def _area(self, scores: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._oblivious is Oblivious.STRICT:
            return pairwise_auc(scores, y)
        area = auc(scores, y)
        return np.zeros(2) if area is None else np.array([area, 1.0])
