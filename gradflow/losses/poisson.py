"""The Poisson loss on log rates.

References:
    A. C. Cameron & P. K. Trivedi, *Regression Analysis of Count Data* (1998).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.errors import DataError
from gradflow.functions import row_weights
from gradflow.losses.base import RegressionLoss, dense_targets, record_losses
from gradflow.ops import Array, op


@op(
    shapes="outputs, targets, d_outputs: rows columns; row_weight: rows; row_losses: epoch_rows; clock: 4",
    writes=("d_outputs", "row_losses", "clock"),
    in_place=(("outputs", "d_outputs"),),
)
def poisson(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
) -> None:
    """Row loss w mean_j (exp(y_j) - t_j y_j);  dL/dy_j = w (exp(y_j) - t_j) / (rows n_out)"""
    weight = row_weights(row_weight, len(outputs), outputs.dtype)
    rate = np.exp(outputs)
    record_losses(weight * (rate - targets * outputs).mean(axis=1), row_losses, clock)
    d_outputs[...] = weight[:, None] * (rate - targets) / outputs.size


class PoissonLoss(RegressionLoss):
    """L = mean over rows and outputs of exp(y) - t y, for counts t whose rate is exp(y).

    It is the negative log-likelihood of the Poisson distribution without log(t!), which does not depend on the weights
    (Cameron & Trivedi, 1998, chapter 3). dL/dy = (exp(y) - t) / (rows n_out). Outputs, and therefore predictions, are
    *log* rates: ``np.exp(network.predict(x))`` are expected counts. Targets (batch, n_out), at least 0, not necessarily
    integers.
    """

    name = "poisson"
    op = poisson
    predicts_targets = False
    takes_any_scale = False

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        targets = dense_targets(y, n_out, dtype)
        if (low := float(targets.min())) < 0:
            raise DataError(f"targets of poisson must be counts, numbers that are at least 0, got {low:g} among them")
        return targets
