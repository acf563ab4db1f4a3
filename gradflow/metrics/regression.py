"""Metrics of predicted numbers, on the scale of the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.metrics.base import Batch, Metric, Statistics, Task
from gradflow.ops import Array, Executor, op

__all__ = ["R2", "MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError", "add_error_sums"]


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    batch_rows, columns = arguments["outputs"].shape
    return {"rows": columns, "batch_rows": batch_rows}


@op(
    shapes="outputs, targets: batch_rows columns; row_weight: batch_rows; sums: 5 columns",
    writes=("sums",),
    sizes=_sizes,
)
def add_error_sums(outputs: Array, targets: Array, row_weight: Array | None, sums: Array) -> None:
    """sums += Σ w e², Σ w |e|, Σ w t, Σ w t², Σ w over the rows of each column, e = y - t, in float64"""
    weight = np.ones((len(targets), 1)) if row_weight is None else row_weight.astype(np.float64)[:, None]
    t = targets.astype(np.float64)
    error = outputs.astype(np.float64) - t
    for place, term in enumerate((error * error, abs(error), t, t * t, 1)):
        sums[place] += (weight * term).sum(axis=0)


class Errors(Statistics):
    """The sums of `add_error_sums`: float64 (5, n_out)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, (5, task.n_out))

    def record(self, ops: Executor, batch: Batch) -> None:
        ops(add_error_sums, batch.outputs, batch.targets, batch.row_weight, self.sums)


class MeanSquaredError(Metric):
    """The mean over rows and outputs of (y - t)²."""

    name = "mean_squared_error"
    larger_is_better = False
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        squares, _, _, _, rows = statistics
        return float((squares / rows * task.deviation**2).mean())


class RootMeanSquaredError(Metric):
    """The mean over outputs of the root of the mean over rows of (y - t)², as scikit-learn has it."""

    name = "root_mean_squared_error"
    larger_is_better = False
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        squares, _, _, _, rows = statistics
        return float((np.sqrt(squares / rows) * task.deviation).mean())


class MeanAbsoluteError(Metric):
    """The mean over rows and outputs of abs(y - t)."""

    name = "mean_absolute_error"
    larger_is_better = False
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        _, absolutes, _, _, rows = statistics
        return float((absolutes / rows * task.deviation).mean())


class R2(Metric):
    """The mean over outputs of 1 - Σ (y - t)² / Σ (t - mean of t)²: 1 is perfect, 0 as good as the mean.

    A constant target has 1 where it is met exactly, else 0.
    """

    name = "r2"
    larger_is_better = True
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        squares, _, targets, target_squares, rows = statistics
        spread = target_squares - targets**2 / rows
        # Where all targets are equal, what is left of the difference is rounding.
        spread = np.where(spread <= 1e-13 * target_squares, 0, spread)
        constant = np.where(squares == 0, 1.0, 0.0)
        return float(np.where(spread > 0, 1 - squares / np.where(spread > 0, spread, 1), constant).mean())
