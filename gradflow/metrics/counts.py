"""Metrics computed from counts: how often each class is the target, is predicted, and both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.executors import Executor
from gradflow.functions import row_weights
from gradflow.metrics.base import Batch, Metric, Statistics, Task
from gradflow.ops import Array, op


@op(shapes="x: rows columns; labels: rows", writes=("labels",))
def largest_column(x: Array, labels: Array) -> None:
    """label_i = the first j with the largest x_ij, or the first with NaN if there is one"""
    labels[...] = np.argmax(x, axis=1)


def _class_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {"rows": arguments["counts"].shape[1], "batch_rows": len(arguments["predicted"])}


@op(
    shapes="predicted, actual, row_weight: batch_rows; counts: 4 classes",
    writes=("counts",),
    sizes=_class_sizes,
)
def add_class_counts(predicted: Array, actual: Array, row_weight: Array | None, counts: Array) -> None:
    """counts += Σ w [t = c], Σ w [p = c], Σ w [t = c and p = c], Σ w, for each class c"""
    classes = np.arange(counts.shape[1])
    is_actual, is_predicted = actual[:, None] == classes, predicted[:, None] == classes
    _add_counts(is_actual, is_predicted, row_weight, counts)


def _label_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    batch_rows, columns = arguments["logits"].shape
    return {"rows": columns, "batch_rows": batch_rows}


@op(
    shapes="logits, targets: batch_rows columns; row_weight: batch_rows; counts: 4 columns",
    writes=("counts",),
    sizes=_label_sizes,
)
def add_label_counts(logits: Array, targets: Array, row_weight: Array | None, counts: Array) -> None:
    """The same if each output is its own label: t_j > ½ instead of t = c, and z_j > 0 instead of p = c"""
    _add_counts(targets > 0.5, logits > 0, row_weight, counts)


def _add_counts(is_actual: Array, is_predicted: Array, row_weight: Array | None, counts: Array) -> None:
    weights = row_weights(row_weight, len(is_actual), np.float64)[:, None]
    for place, chosen in enumerate((is_actual, is_predicted, is_actual & is_predicted)):
        counts[place] += (weights * chosen).sum(axis=0)
    counts[3] += weights.sum()


def actual_labels(ops: Executor, batch: Batch) -> Array:
    """Return the class of each row, int32 (rows,): its label, or the one with the highest target probability."""
    if batch.targets.ndim == 1:
        return batch.targets
    labels = ops.backend.empty(len(batch.targets), np.int32)
    ops(largest_column, batch.targets, labels)
    return labels


class Counts(Statistics):
    """Weights of the rows of each class, of those predicted as it, of both, and of all rows: float64 (4, n_out)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, (4, task.n_out))

    def record(self, ops: Executor, batch: Batch) -> None:
        if self.task.kind != "classes":
            ops(add_label_counts, batch.outputs, batch.targets, batch.row_weight, self.sums)
            return
        predicted = ops.backend.empty(len(batch.outputs), np.int32)
        ops(largest_column, batch.outputs, predicted)
        ops(add_class_counts, predicted, actual_labels(ops, batch), batch.row_weight, self.sums)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, and 0 where the whole is 0."""
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
    return ratio


def _mean_over_classes(scores: np.ndarray, actual: np.ndarray, predicted: np.ndarray, task: Task) -> float:
    """Return the mean over all labels, or over the classes that occur in targets or predictions."""
    chosen = (actual + predicted > 0) | (task.kind != "classes")
    return float(scores[chosen].mean())


class _OfPositives(Metric):
    """Base class of metrics that are 0 if no row belongs to a positive class."""

    kinds = ("classes", "binary", "multi-label")
    statistics = Counts

    def missing(self, statistics: np.ndarray, task: Task) -> str | None:
        return None if statistics[0].any() else "rows of class 1" if task.kind == "binary" else "rows with a label"


class Precision(_OfPositives):
    """Fraction of the predictions of a class that are correct: right / predicted; 0 if there are none.

    With one output it is that of the second class; otherwise the mean over labels, or over the classes that occur
    (scikit-learn's "macro").
    """

    name = "precision"
    larger_is_better = True

    def value(self, statistics: np.ndarray, task: Task) -> float:
        actual, predicted, right, _ = statistics
        return _mean_over_classes(_ratio(right, predicted), actual, predicted, task)


class Recall(_OfPositives):
    """Fraction of the rows of a class that are predicted as it: right / actual; averaged as in `Precision`."""

    name = "recall"
    larger_is_better = True

    def value(self, statistics: np.ndarray, task: Task) -> float:
        actual, predicted, right, _ = statistics
        return _mean_over_classes(_ratio(right, actual), actual, predicted, task)


class F1(_OfPositives):
    """Harmonic mean of precision and recall, 2 right / (actual + predicted); averaged as in `Precision`."""

    name = "f1"
    larger_is_better = True

    def value(self, statistics: np.ndarray, task: Task) -> float:
        actual, predicted, right, _ = statistics
        return _mean_over_classes(_ratio(2 * right, actual + predicted), actual, predicted, task)


class BalancedAccuracy(Metric):
    """Mean recall over the classes that occur in the targets (Brodersen et al., 2010)."""

    name = "balanced_accuracy"
    larger_is_better = True
    kinds = ("classes", "binary")
    statistics = Counts

    def value(self, statistics: np.ndarray, task: Task) -> float:
        actual, predicted, right, rows = statistics
        if task.kind == "binary":
            actual = np.concatenate([actual, rows - actual])
            right = np.concatenate([right, rows - predicted - (actual[:1] - right)])
        return float(_ratio(right, actual)[actual > 0].mean())
