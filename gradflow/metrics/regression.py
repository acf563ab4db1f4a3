"""Regression metrics, in target units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.executors import Executor
from gradflow.functions import row_weights
from gradflow.metrics.base import Batch, Metric, Statistics, Task
from gradflow.ops import Array, op


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    batch_rows, columns = arguments["outputs"].shape
    return {"rows": columns, "batch_rows": batch_rows}


@op(
    shapes="outputs, targets: batch_rows columns; row_weight: batch_rows; moments: 5 columns",
    writes=("moments",),
    sizes=_sizes,
)
def add_error_moments(outputs: Array, targets: Array, row_weight: Array | None, moments: Array) -> None:
    """Add a batch to Σ w e², Σ w |e|, m, Σ w (t - m)², Σ w of each column, e = y - t, m = Σ w t / Σ w, in float64.

    The spread is taken about the batch's mean, and combined with that of earlier rows (Chan, Golub & LeVeque, 1979):
    Σ w t² would lose all digits if the mean is large compared to the standard deviation. A constant has exactly 0."""
    weight = row_weights(row_weight, len(targets), np.float64)
    if not weight.any():
        return
    t = targets.astype(np.float64)
    error = outputs.astype(np.float64) - t
    moments[0] += weight @ (error * error)
    moments[1] += weight @ abs(error)
    origin, before, added = t[np.argmax(weight > 0)], moments[4].copy(), weight.sum()
    mean = origin + weight @ (t - origin) / added
    distance = mean - moments[2]
    moments[4] += added
    moments[2] += distance * (added / moments[4])
    moments[3] += weight @ (t - mean) ** 2 + distance * (before * (added / moments[4])) * distance


def moments_of_sums(sums: np.ndarray) -> np.ndarray:
    """Convert sums of earlier versions, Σ w e², Σ w |e|, Σ w t, Σ w t², Σ w, to those of `add_error_moments`."""
    squares, absolutes, targets, target_squares, weights = sums
    mean = targets / np.where(weights > 0, weights, 1)
    return np.stack([squares, absolutes, mean, np.maximum(target_squares - targets * mean, 0), weights])


class Errors(Statistics):
    """The moments that `add_error_moments` accumulates: float64 (5, n_out)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, (5, task.n_out))

    @property
    def vectors(self) -> dict[str, Array]:
        return {"moments": self.sums}

    def record(self, ops: Executor, batch: Batch) -> None:
        ops(add_error_moments, batch.outputs, batch.targets, batch.row_weight, self.sums)

    def merged(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Add the sums, and combine means and spreads as `add_error_moments` does."""
        of_all = parts[0]["moments"].copy()
        for part in parts[1:]:
            squares, absolutes, mean, spread, weight = part["moments"]
            total = of_all[4] + weight
            fraction = weight / np.where(total > 0, total, 1)
            distance = mean - of_all[2]
            of_all[3] += spread + distance * (of_all[4] * fraction) * distance
            of_all[2] += distance * fraction
            of_all[[0, 1, 4]] += squares, absolutes, weight
        return {"moments": of_all}


class MeanSquaredErrorMetric(Metric):
    """Mean over rows and outputs of (y - t)²."""

    name = "mean_squared_error"
    larger_is_better = False
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        squares, _, _, _, rows = statistics
        return float((squares / rows * task.std**2).mean())


class RootMeanSquaredError(Metric):
    """Mean over outputs of the square root of the mean over rows of (y - t)², as in scikit-learn."""

    name = "root_mean_squared_error"
    larger_is_better = False
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        squares, _, _, _, rows = statistics
        return float((np.sqrt(squares / rows) * task.std).mean())


class MeanAbsoluteErrorMetric(Metric):
    """Mean over rows and outputs of abs(y - t)."""

    name = "mean_absolute_error"
    larger_is_better = False
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        _, absolutes, _, _, rows = statistics
        return float((absolutes / rows * task.std).mean())


class R2(Metric):
    """Mean over outputs of 1 - Σ (y - t)² / Σ (t - mean of t)²: 1 is perfect, 0 as good as predicting the mean.

    For a constant target it is 1 if the predictions are exact, else 0.
    """

    name = "r2"
    larger_is_better = True
    kinds = ("numbers",)
    statistics = Errors

    def value(self, statistics: np.ndarray, task: Task) -> float:
        squares, _, _, spread, _ = statistics
        constant = np.where(squares == 0, 1.0, 0.0)
        return float(np.where(spread > 0, 1 - squares / np.where(spread > 0, spread, 1), constant).mean())

    def missing(self, statistics: np.ndarray, task: Task) -> str | None:
        return None if (statistics[3] > 0).any() else "two rows with different targets"
