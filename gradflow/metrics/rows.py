"""Metrics that are means over the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive_integer
from gradflow.errors import DataError, GradflowError
from gradflow.executors import Executor
from gradflow.functions import log_softmax, row_weights, softplus
from gradflow.metrics.base import Batch, Kind, Metric, Statistics, Task
from gradflow.metrics.counts import actual_labels
from gradflow.ops import Array, op


@op(
    shapes="values, row_weight: batch_rows; sums: 2",
    writes=("sums",),
    sizes=lambda arguments: {"rows": 1, "columns": len(arguments["values"])},
)
def add_weighted_total(values: Array, row_weight: Array | None, sums: Array) -> None:
    """sums += Σ w v, Σ w, in float64"""
    weight = row_weights(row_weight, len(values), np.float64)
    sums += [(weight * values).sum(), weight.sum()]


@op(shapes="logits: rows columns; labels, values: rows", writes=("values",))
def top_k_correct(logits: Array, labels: Array, values: Array, k: int) -> None:
    """1 if the label's logit is among the k largest, the first ones of equal logits; else 0"""
    own = np.take_along_axis(logits, labels[:, None].astype(np.intp), axis=1)
    is_before = np.arange(logits.shape[1]) < labels[:, None]
    ahead = (~(logits <= own)).sum(axis=1) + ((logits == own) & is_before).sum(axis=1)
    values[...] = ahead < k


@op(shapes="logits: rows columns; labels, values: rows", writes=("values",))
def label_log_losses(logits: Array, labels: Array, values: Array) -> None:
    """-log softmax(z)_c for the label c of the row"""
    values[...] = -np.take_along_axis(log_softmax(logits), labels[:, None].astype(np.intp), axis=1)[:, 0]


@op(shapes="logits, targets: rows columns; values: rows", writes=("values",))
def binary_log_losses(logits: Array, targets: Array, values: Array) -> None:
    """mean_j [log(1 + exp(z_j)) - t_j z_j]"""
    values[...] = (softplus(logits) - targets * logits).mean(axis=1)


class TotalWeight(Statistics):
    """Σ w, twice: float64 (2,)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, (2,))

    def record(self, ops: Executor, batch: Batch) -> None:
        ones = ops.backend.from_host(np.ones(len(batch.outputs)))
        ops(add_weighted_total, ones, batch.row_weight, self.sums)


class RowMean(Statistics):
    """Σ w v and Σ w for a value v of each row: float64 (2,)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, (2,))

    def record(self, ops: Executor, batch: Batch) -> None:
        values = ops.backend.empty(len(batch.outputs), np.float64)
        self.record_values(ops, batch, values)
        ops(add_weighted_total, values, batch.row_weight, self.sums)

    def record_values(self, ops: Executor, batch: Batch, values: Array) -> None:
        """Record the ops that write the value of each row, float64 (rows,)."""
        raise GradflowError(f"statistics {type(self).__name__} do not define record_values(ops, batch, values)")


class TopKHits(RowMean):
    """1 for rows whose class is among the k largest outputs, else 0."""

    def __init__(self, task: Task, k: int) -> None:
        super().__init__(task)
        self._k = k

    def record_values(self, ops: Executor, batch: Batch, values: Array) -> None:
        ops(top_k_correct, batch.outputs, actual_labels(ops, batch), values, self._k)


class LogLosses(RowMean):
    """Negative log of the probability predicted for the class of a row."""

    def record_values(self, ops: Executor, batch: Batch, values: Array) -> None:
        if self.task.kind == "classes":
            ops(label_log_losses, batch.outputs, actual_labels(ops, batch), values)
        else:
            ops(binary_log_losses, batch.outputs, batch.targets, values)


def _mean(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])


class TopKAccuracy(Metric):
    """Fraction of rows whose class is among the k largest outputs; of equal outputs the first counts as larger.

    Args:
        k: at least 1, and below the number of classes. With k = 5, the name in the history is "top_5_accuracy".
    """

    name = "top_k_accuracy"
    larger_is_better = True
    kinds = ("classes",)
    statistics = TopKHits

    def __init__(self, k: int = 5) -> None:
        self.settings = (positive_integer("k", k),)

    def config(self) -> dict[str, Any]:
        return {"k": self.settings[0]}

    @property
    def label(self) -> str:
        k = self.settings[0]
        return f"top_{k}_accuracy" if self.name == TopKAccuracy.name else f"{self.name}_{k}"

    def check(self, kind: Kind, n_out: int) -> None:
        super().check(kind, n_out)
        if self.settings[0] >= n_out:
            raise DataError(f"k must be below the number of classes, which is {n_out}, got {self.settings[0]}")

    def value(self, statistics: np.ndarray, task: Task) -> float:
        return _mean(statistics)


class LogLoss(Metric):
    """Mean of -log p over rows (and labels, if several), where p is the predicted probability of the row's class."""

    name = "log_loss"
    larger_is_better = False
    kinds = ("classes", "binary", "multi-label")
    statistics = LogLosses

    def value(self, statistics: np.ndarray, task: Task) -> float:
        return _mean(statistics)
