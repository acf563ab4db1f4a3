"""The mean absolute error (Laplace, 1774)."""

from __future__ import annotations

import numpy as np

from gradflow.functions import row_weights
from gradflow.losses.base import RegressionLoss, record_losses
from gradflow.ops import Array, op


@op(
    shapes="outputs, targets, d_outputs: rows columns; row_weight: rows; row_losses: epoch_rows; clock: 4",
    writes=("d_outputs", "row_losses", "clock"),
    in_place=(("outputs", "d_outputs"),),
)
def absolute_error(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
) -> None:
    """Row loss w mean_j |y_j - t_j|;  dL/dy_j = w sign(y_j - t_j) / (rows n_out)"""
    error = outputs - targets
    weight = row_weights(row_weight, len(error), error.dtype)
    record_losses(weight * abs(error).mean(axis=1), row_losses, clock)
    d_outputs[...] = weight[:, None] * np.sign(error) / error.size


class MeanAbsoluteError(RegressionLoss):
    """L = mean over rows and outputs of |y - t|;  dL/dy = sign(y - t) / (rows n_out), 0 where y = t.

    The best constant prediction is the median, as opposed to the mean for squared errors, so outliers have less
    influence. Targets (batch, n_out).
    """

    name = "mean_absolute_error"
    op = absolute_error
