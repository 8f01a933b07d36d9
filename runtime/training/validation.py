"""Measures a vector on a trainer's validation rows."""

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets import Examples
from chiron.runtime.training.graphs import forward_model, preprocess
from chiron.runtime.training.layout import FlatLayout, Vector
from chiron.runtime.training.memory import evaluation_rows
from chiron.runtime.training.metrics import Place, add_classification, add_regression, auc, f1
from chiron.runtime.training.reference_losses import loss_sum
from chiron.runtime.training.sessions import ForwardSession
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Metric, Recipe
from chiron.wire.contract import BuildRequest


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
