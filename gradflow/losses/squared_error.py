"""Squared errors: the mean and the half form, as separate losses."""

from __future__ import annotations

from gradflow.errors import GradflowError
from gradflow.executors import Executor
from gradflow.functions import row_weights
from gradflow.losses.base import RegressionLoss, record_losses
from gradflow.ops import Array, op


@op(
    shapes="outputs, targets, d_outputs: rows columns; row_weight: rows; row_losses: epoch_rows; clock: 4",
    writes=("d_outputs", "row_losses", "clock"),
    in_place=(("outputs", "d_outputs"),),
)
def squared_error(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
    factor: float,
) -> None:
    """Row loss w factor Σ_j (y_j - t_j)²;  dL/dy_j = w 2 factor (y_j - t_j) / rows"""
    error = outputs - targets
    weight = row_weights(row_weight, len(error), error.dtype)
    record_losses(weight * factor * (error**2).sum(axis=1), row_losses, clock)
    d_outputs[...] = weight[:, None] * (2 * factor / len(error)) * error


class _SquaredError(RegressionLoss):
    op = squared_error

    def factor(self, n_out: int) -> float:
        raise GradflowError(f"loss {type(self).__name__} does not define factor(n_out)")

    def settings(self, ops: Executor, outputs: Array) -> tuple[float]:
        return (self.factor(outputs.shape[1]),)


class MeanSquaredError(_SquaredError):
    """L = mean over rows and outputs of (y - t)²;  dL/dy = 2 (y - t) / (rows n_out). Targets (batch, n_out).

    Its minimum is the method of least squares (Legendre, 1805).
    """

    name = "mean_squared_error"

    def factor(self, n_out: int) -> float:
        return 1 / n_out


class HalfSquaredError(_SquaredError):
    """L = mean over rows of ½ Σ over outputs of (y - t)²;  dL/dy = (y - t) / rows. Targets (batch, n_out)."""

    name = "half_squared_error"

    def factor(self, n_out: int) -> float:
        return 0.5
