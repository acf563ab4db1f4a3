"""The area under the ROC curve, computed from the scores of all rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.executors import Executor
from gradflow.metrics.base import Batch, Metric, Statistics, Task
from gradflow.metrics.counts import actual_labels
from gradflow.ops import POSITION, Array, op


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    x = arguments["x"]
    return {"rows": len(x), "row_words": int(x.nbytes) // max(len(x), 1) // 4}


@op(shapes="x: rows *row; kept: epoch_rows *row; clock: 4", writes=("kept",), sizes=_sizes)
def keep_rows(x: Array, kept: Array, clock: Array) -> None:
    """Row r of the batch becomes row position + r of the epoch"""
    position = int(clock[POSITION])
    kept[position : position + len(x)] = x


class KeptRows(Statistics):
    """All rows of an epoch.

    Attributes:
        outputs: the outputs, (rows, n_out).
        targets: the targets, in the form that the loss takes, or class numbers (rows,); None before the recording.
        weights: the weights of the rows, (rows,); None if all have equal weight.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task, (0,))
        self.outputs: Array = task.backend.empty((task.rows, task.n_out), task.dtype)
        self.targets: Array | None = None
        self.weights: Array | None = None

    @property
    def vectors(self) -> dict[str, Array]:
        kept = {"outputs": self.outputs, "targets": self.targets, "weights": self.weights}
        return {name: vector for name, vector in kept.items() if vector is not None}

    def record(self, ops: Executor, batch: Batch) -> None:
        backend, rows = self.task.backend, self.task.rows
        targets = actual_labels(ops, batch) if self.task.kind == "classes" else batch.targets
        if self.targets is None:
            self.targets = backend.empty((rows, *targets.shape[1:]), targets.dtype)
        ops(keep_rows, batch.outputs, self.outputs, batch.clock)
        ops(keep_rows, targets, self.targets, batch.clock)
        if batch.row_weight is not None:
            if self.weights is None:
                self.weights = backend.empty(rows, batch.row_weight.dtype)
            ops(keep_rows, batch.row_weight, self.weights, batch.clock)


class Scores(KeptRows):
    """The rows of an epoch, from which `read` computes areas: float64 (n_out,)."""

    def read(self) -> np.ndarray:
        assert self.targets is not None
        with self.task.backend.running():
            outputs = self.outputs
            weights = np.ones_like(outputs[:, 0]) if self.weights is None else self.weights
            weights = weights.astype(np.float64)
            if self.task.kind == "classes":
                outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
                outputs = outputs / outputs.sum(axis=1, keepdims=True)
            areas = [_area(outputs[:, column], self._is_positive(column), weights) for column in range(self.task.n_out)]
            stacked = np.stack(areas)
        return self.task.backend.to_host(stacked)

    def _is_positive(self, column: int) -> Array:
        assert self.targets is not None
        return self.targets == column if self.task.kind == "classes" else self.targets[:, column] > 0.5


def _area(scores: Array, is_positive: Array, weights: Array) -> Array:
    """Return the weighted fraction of (positive, negative) pairs of rows in the correct order; ties count half.

    NaN if there are no positive or no negative rows.
    """
    order = np.argsort(scores)
    scores = scores[order]
    positive = np.where(is_positive, weights, 0)[order]
    negative = np.where(is_positive, 0, weights)[order]
    below = np.cumsum(negative) - negative
    # Indices of the first and the last row with the same score.
    first, last = np.searchsorted(scores, scores, "left"), np.searchsorted(scores, scores, "right") - 1
    ordered = below[first]
    tied = below[last] + negative[last] - ordered
    pairs = positive.sum() * negative.sum()
    return (positive * (ordered + tied / 2)).sum() / pairs


class RocAuc(Metric):
    """Area under the curve of true against false positive rate (Hanley & McNeil, 1982): the probability that a random
    row of a class has a larger score than a random row outside it.

    With one output it is that of the second class; otherwise the mean over labels, or over classes, each against the
    rest (scikit-learn's "macro" and "ovr"). Labels and classes without both positive and negative rows are ignored; if
    none remain, it is NaN.

    It needs the scores of all rows at once: outputs, targets and weights of an epoch stay on the device, 4 bytes per
    number in float32, and each column is sorted there when the epoch ends. All other metrics only keep sums.
    """

    name = "roc_auc"
    larger_is_better = True
    kinds = ("classes", "binary", "multi-label")
    statistics = Scores

    def value(self, statistics: np.ndarray, task: Task) -> float:
        known = statistics[~np.isnan(statistics)]
        return float(known.mean()) if known.size else float("nan")

    def missing(self, statistics: np.ndarray, task: Task) -> str | None:
        if not np.isnan(statistics).all():
            return None
        return "label with rows of 0 and of 1" if task.kind == "multi-label" else "rows of two classes"
